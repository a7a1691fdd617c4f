//! What a broker calls itself: product and version stand in its greeting, which lapin keeps to itself. So a connection is
//! made for that alone, for people to read; who does not get to know it goes on without.

use super::settings::{Server, Settings};
use crate::sink::peer;
use lapin::types::{AMQPValue, FieldTable, parsing};
use lapin::uri::AMQPScheme;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(2);

/// Of a greeting's payload, in bytes; RabbitMQ's is below 1,000.
const MOST: u32 = 65_536;

/// `RabbitMQ 3.13.7`, or what there is to say of a broker that does not say it.
pub(super) async fn of(server: &Server, settings: &Settings) -> String {
    let named = timeout(PATIENCE, ask(server, settings)).await.ok().flatten();
    named.unwrap_or_else(|| "AMQP 0.9.1 broker".to_owned())
}

async fn ask(server: &Server, settings: &Settings) -> Option<String> {
    let authority = &server.uri.authority;
    let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await.ok()?;
    match server.uri.scheme {
        AMQPScheme::AMQP => read(stream).await,
        AMQPScheme::AMQPS => {
            let connector = TlsConnector::from(Arc::new(peer::client_config(&settings.tls()).ok()?));
            let name = ServerName::try_from(authority.host.clone()).ok()?;
            read(connector.connect(name, stream).await.ok()?).await
        }
    }
}

/// AMQP 0.9.1, 2.2.4 and 1.4.2.1: our header; the broker's first frame (type 1, channel, size), and in it the method
/// `connection.start` (10, 10) with the version (2 bytes) and the server's properties.
async fn read(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<String> {
    stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
    stream.flush().await.ok()?;
    let mut header = [0; 7];
    stream.read_exact(&mut header).await.ok()?;
    let [1, _, _, size @ ..] = header else { return None };
    let size = Some(u32::from_be_bytes(size)).filter(|size| *size <= MOST)?;
    let mut payload = vec![0; usize::try_from(size).ok()?];
    stream.read_exact(&mut payload).await.ok()?;
    let properties = payload.strip_prefix(&[0, 10, 0, 10])?.get(2..)?;
    let (_, properties) = parsing::parse_field_table(properties).ok()?;
    let product = text(&properties, "product")?;
    Some(text(&properties, "version").map_or(product.clone(), |version| format!("{product} {version}")))
}

fn text(properties: &FieldTable, name: &str) -> Option<String> {
    match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    }
}
