//! `/api/openapi.json`: what the listener answers, for programs that write programs. Shapes come from the types that are
//! answered and read.

mod operations;

use axum::Json;
use operations::{Kind, Operation, operations};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::sync::LazyLock;

/// What consumers get; the schema that is shipped for them.
pub(super) struct Record;

impl JsonSchema for Record {
    fn schema_name() -> Cow<'static, str> {
        "Record".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A test holds it to be JSON.
        let schema: Value =
            serde_json::from_str(include_str!("../../config/record.schema.json")).unwrap_or(Value::Bool(true));
        schema.try_into().unwrap_or_default()
    }
}

/// An error, of whatever status.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is only described; reply::problem makes it")]
struct Error {
    /// What is wrong, and where.
    error: String,
}

/// Two generators, since what is read may leave out what is answered always.
pub(super) struct Shapes {
    answered: SchemaGenerator,
    read: SchemaGenerator,
}

impl Shapes {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
        });
        Self {
            answered: settings.clone().for_serialize().into_generator(),
            read: settings.for_deserialize().into_generator(),
        }
    }

    fn answered<T: JsonSchema>(&mut self) -> Value {
        self.answered.subschema_for::<T>().to_value()
    }

    fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.read.take_definitions(true);
        all.extend(self.answered.take_definitions(true));
        all
    }
}

pub(super) async fn show() -> Json<Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
    Json(DOCUMENT.clone())
}

fn document() -> Value {
    let mut shapes = Shapes::new();
    let error = shapes.answered::<Error>();
    let mut paths = Map::new();
    for operation in operations(&mut shapes) {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(operation.method().to_owned(), describe(&operation, &error));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "e2b-relay, admin listener",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "For operators. Lists come a page at a time: `limit` (1 to 1000) and `cursor`, which is the \
                            `next_cursor` of the page before.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": shapes.definitions(),
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "What is in `admin.token_file`, or in `admin-token` in the store's folder.",
            }},
        },
    })
}

fn describe(operation: &Operation, error: &Value) -> Value {
    let Operation { path, summary, kind, parameters, body, answers, .. } = operation;
    let mut responses = Map::new();
    for answer in answers {
        let content = json!({answer.media: {"schema": answer.shape}});
        responses.insert(answer.status.to_string(), json!({"description": answer.words, "content": content}));
    }
    if *kind != Kind::Open {
        let content = json!({"application/json": {"schema": error}});
        responses.insert("default".to_owned(), json!({"description": "An error, in words.", "content": content}));
    }
    let in_path = path.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let in_path =
        in_path.map(|(name, _)| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = parameters
        .iter()
        .map(|(name, words)| json!({"name": name, "in": "query", "description": words, "schema": {"type": "string"}}));
    let mut described = json!({
        "summary": summary,
        "operationId": operation.id(),
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses,
        "security": match kind {
            Kind::Open => json!([]),
            // Without one only where both ends are on one machine.
            Kind::Reading => json!([{}, {"token": []}]),
            Kind::Changing => json!([{"token": []}]),
        },
    });
    if let (Some(body), Value::Object(described)) = (body, &mut described) {
        let content = json!({"application/json": {"schema": body}});
        described.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    described
}
