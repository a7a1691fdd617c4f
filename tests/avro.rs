//! Records in Avro, through each broker, read back by an independent reader with the schema that the registry has.

use crate::sdk;
use crate::simulate::{KEY, Running};
use crate::support::brokers::{self, unique};
use crate::support::consume;
use crate::support::daemon::{Home, reqwest_client};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A registry as far as its API's documentation says what the relay and a reader see of it: ids by schema, versions by
/// subject, errors with `error_code` and `message`.
#[derive(Default)]
struct Registry {
    /// By subject; the id is one more than the place of the schema in `schemas`.
    subjects: Mutex<BTreeMap<String, Vec<usize>>>,
    schemas: Mutex<Vec<String>>,
    /// Registrations that are still to be answered 503.
    trouble: AtomicUsize,
    asked: AtomicUsize,
}

const AUTHORIZATION: &str = "Basic cmVsYXk6cmVnaXN0cnktd29yZA==";

async fn register(
    State(registry): State<Arc<Registry>>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    registry.asked.fetch_add(1, Ordering::SeqCst);
    if headers.get("authorization").is_none_or(|given| given != AUTHORIZATION) {
        return (
            StatusCode::UNAUTHORIZED,
            Json(json!({"error_code": 401, "message": "User cannot access the resource."})),
        )
            .into_response();
    }
    let less = |left: usize| left.checked_sub(1);
    if registry.trouble.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
        return (StatusCode::SERVICE_UNAVAILABLE, "<html>no upstream</html>").into_response();
    }
    let schema = body["schema"].as_str().unwrap().to_owned();
    let mut schemas = registry.schemas.lock().unwrap();
    let place = schemas.iter().position(|known| *known == schema).unwrap_or_else(|| {
        schemas.push(schema);
        schemas.len() - 1
    });
    let mut subjects = registry.subjects.lock().unwrap();
    let versions = subjects.entry(subject).or_default();
    if !versions.contains(&place) && !versions.is_empty() {
        let message = "Schema being registered is incompatible with an earlier schema";
        return (StatusCode::CONFLICT, Json(json!({"error_code": 409, "message": message}))).into_response();
    }
    if versions.is_empty() {
        versions.push(place);
    }
    Json(json!({"id": place + 1})).into_response()
}

async fn schema(State(registry): State<Arc<Registry>>, Path(id): Path<usize>) -> Json<Value> {
    Json(json!({"schema": registry.schemas.lock().unwrap()[id - 1]}))
}

async fn serve(registry: &Arc<Registry>) -> String {
    let app = Router::new()
        .route("/registry/subjects", get(|| async { Json(json!([])) }))
        .route("/registry/subjects/{subject}/versions", post(register))
        .route("/registry/schemas/ids/{id}", get(schema))
        .with_state(Arc::clone(registry));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/registry", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_read_back_from_every_broker_by_the_registry_s_schema() {
    let registry = Arc::new(Registry { trouble: AtomicUsize::new(2), ..Registry::default() });
    registry.schemas.lock().unwrap().push("another's".to_owned());
    let url = serve(&registry).await;
    let provider = Running::start(Options::default()).await;
    provider.happen(60, 600).await;
    let name = unique("avro");
    consume::create_topic(&brokers::kafka(), &name, 1).await;
    let avro = format!("format: avro, schema_registry: {{url: '{url}', username: relay, password: registry-word}}");
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{lookback: 3h}}}}}}\nsinks:\n  \
         lake: {{type: kafka, brokers: ['{}'], topic: {name}, {avro}}}\n  \
         bus: {{type: nats, servers: ['{}'], subject: '{name}.all', stream: {{name: {name}, subjects: ['{name}.>'], create: true}}, {avro}}}\n  \
         queue: {{type: amqp, url: '{}', exchange: {name}, declare: {{exchange_type: topic, queue: {name}}}, {avro}}}\n  \
         audit: {{type: file, path: ./audit.ndjson}}\n",
        provider.base,
        brokers::kafka(),
        brokers::nats(),
        brokers::amqp(),
    ));
    let daemon = home.start().await;
    for sink in ["lake", "bus", "queue", "audit"] {
        daemon.until("all are sent", |metrics| metrics.settled(sink) == 60).await;
    }
    assert!(
        daemon.metrics().await.sum("sink_errors_total", "reason=\"connect\"") >= 2.0,
        "the registry was down at first"
    );
    assert!(daemon.terminate().await.success());
    let subjects: BTreeSet<String> = registry.subjects.lock().unwrap().keys().cloned().collect();
    assert_eq!(subjects, BTreeSet::from([format!("{name}-value"), "e2b.events-value".to_owned()]));
    assert!(registry.asked.load(Ordering::SeqCst) <= 3 + 2 + 2, "each sink asks once, and again after trouble");

    let mut expected: Vec<Value> = consume::file(&home.path().join("audit.ndjson"));
    expected.sort_by_key(|record| record["id"].as_str().unwrap().to_owned());
    let messages = [
        consume::kafka_bytes(&brokers::kafka(), &name).await,
        consume::jetstream_bytes(&brokers::nats(), &name).await,
        consume::amqp_bytes(&brokers::amqp(), &name).await,
    ];
    for messages in messages {
        let hexadecimal =
            |(_, bytes): &(String, Vec<u8>)| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let given = json!({"registry": url, "messages": messages.iter().map(hexadecimal).collect::<Vec<_>>()});
        let file = home.path().join("messages.json");
        std::fs::write(&file, given.to_string()).unwrap();
        let read = sdk::output_of(sdk::script("avro_reader.py").await.arg(&file)).await;
        let mut read: Vec<Value> = serde_json::from_slice(&read).unwrap();
        read.sort_by_key(|record| record["id"].as_str().unwrap().to_owned());
        assert_eq!(read.len(), expected.len());
        for (read, expected) in read.iter().zip(&expected) {
            for field in ["id", "type", "version", "timestamp", "sandbox_id", "sandbox_execution_id", "sandbox_team_id"]
            {
                assert_eq!(read[field], expected[field], "{field}");
            }
            let data: Value = serde_json::from_str(read["event_data"].as_str().unwrap_or("null")).unwrap();
            assert_eq!(data, expected["event_data"]);
            for field in ["schema", "source", "origin", "sequence", "instance"] {
                assert_eq!(read["relay"][field], expected["relay"][field], "{field}");
            }
            let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            assert_eq!(time(&read["occurred_at"]).as_microsecond(), time(&expected["timestamp"]).as_microsecond());
            assert_eq!(time(&read["relay"]["received_at"]), time(&expected["relay"]["received_at"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_refuses_halts_the_sink_and_says_what_to_do() {
    let registry = Arc::new(Registry::default());
    let url = serve(&registry).await;
    let provider = Running::start(Options::default()).await;
    provider.happen(3, 60).await;
    registry.schemas.lock().unwrap().push("another's".to_owned());
    registry.subjects.lock().unwrap().insert("taken".to_owned(), vec![0]);
    let topic = unique("avro");
    consume::create_topic(&brokers::kafka(), &topic, 1).await;
    let sink = |name: &str, keys: &str| {
        format!(
            "  {name}: {{type: kafka, brokers: ['{}'], topic: {topic}, format: avro, schema_registry: {{url: '{url}', {keys}}}}}\n",
            brokers::kafka()
        )
    };
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{lookback: 3h}}}}}}\nsinks:\n{}{}",
        provider.base,
        sink("stranger", "username: relay, password: canary"),
        sink("late", "username: relay, password: registry-word, subject: taken"),
    ));
    let daemon = home.start().await;
    daemon
        .until("both are refused", |metrics| {
            metrics.sum("sink_errors_total", "reason=\"auth\",sink=\"stranger\"") > 0.0
                && metrics.sum("sink_errors_total", "reason=\"rejected\",sink=\"late\"") > 0.0
        })
        .await;
    let shown: Value = {
        let reply = reqwest_client().get(format!("http://{}/api/sinks", daemon.admin)).send().await.unwrap();
        reply.json().await.unwrap()
    };
    let said = |index: usize| shown["sinks"][index]["last_error"]["message"].as_str().unwrap().to_owned();
    assert!(said(0).contains("not compatible") && said(0).contains("schema_registry.subject"), "{}", said(0));
    assert!(said(1).contains("schema_registry.username") && !said(1).contains("canary"), "{}", said(1));
    // Once it is mended, all goes by itself.
    registry.subjects.lock().unwrap().clear();
    daemon.until("what waited is sent", |metrics| metrics.settled("late") == 3).await;
    assert_eq!(daemon.metrics().await.settled("stranger"), 0);
    assert!(daemon.terminate().await.success());
}
