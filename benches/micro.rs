//! What each event costs in the pure rooms: verify, decode, route with its filter, template and encoding.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use e2b_relay::decode;
use e2b_relay::event::{Arrival, Event, Origin, Stored};
use e2b_relay::metrics::{Metrics, Used};
use e2b_relay::route::{Addressing, Escape, Filter, Format, Framing, Router, Settings, Template, View};
use e2b_relay::secret::Secret;
use e2b_relay::verify::{Accept, Presented, Verified, Verifier};
use std::hint::black_box;

const SECRET: &str = "a secret for benches, 32 bytes long";
const INSTANCE: &str = "0b7d2f0e-27c4-4b52-8d52-5fb3b1b9c0de";
const BODY: &str = r#"{"id":"f5911677-cb60-498f-afed-f68143b3cc59","version":"v2","type":"sandbox.lifecycle.killed","timestamp":"2025-08-06T20:59:36Z","event_category":"lifecycle","event_label":"kill","event_data":{"sandbox_metadata":{"env":"prod","user":"user-4711","note":"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"},"number":4711},"sandbox_id":"iz62km2v0zwlow3i7icxv","sandbox_execution_id":"1dae9e1c-9957-4ce7-a236-a99d5779aadf","sandbox_template_id":"rki5dems9wqfm4r03t7g","sandbox_build_id":"a979a14b-bdcc-49e6-bc04-1189fc9fe7c2","sandbox_team_id":"460355b3-4f64-48f9-9a16-4442817f79f5"}"#;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let verified = verify(&mut criterion)?;
    let stored = decode(&mut criterion, &verified)?;
    route(&mut criterion, &stored)?;
    metrics(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn verify(criterion: &mut Criterion) -> anyhow::Result<Verified> {
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest([SECRET.as_bytes(), BODY.as_bytes()].concat());
    let signature = base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest);
    let presented = Presented {
        e2b_signature: vec![signature.as_bytes()],
        e2b_signature_version: vec![b"v1"],
        ..Default::default()
    };
    let verifier = Verifier::new(&[Secret::from(SECRET.to_owned())], Accept::Auto);
    let body = Bytes::from_static(BODY.as_bytes());
    criterion
        .benchmark_group("verify")
        .throughput(Throughput::Bytes(BODY.len() as u64))
        .bench_function("e2b", |bencher| bencher.iter(|| verifier.verify(black_box(&presented), body.clone())));
    Ok(verifier.verify(&presented, body)?)
}

fn decode(criterion: &mut Criterion, verified: &Verified) -> anyhow::Result<Stored> {
    let event: Event = decode::delivery(verified)?.event;
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Bytes(BODY.len() as u64));
    group.bench_function("delivery", |bencher| bencher.iter(|| decode::delivery(black_box(verified))));
    group.bench_function("stored", |bencher| bencher.iter(|| decode::stored(black_box(&event))));
    group.finish();
    let arrival = Arrival {
        source: "acme".into(),
        origin: Origin::Webhook,
        received_at: "2025-08-06T20:59:36.412Z".parse()?,
        webhook_id: None,
        delivery_id: None,
    };
    Ok(Stored { sequence: 4711, arrival, event })
}

/// A scrape with the gauges of 10,000 sandboxes, beside the writing of the same bytes into a buffer.
fn metrics(criterion: &mut Criterion) -> anyhow::Result<()> {
    let metrics = Metrics::new("0", "0")?;
    for number in 0..10_000_u32 {
        let number = f64::from(number);
        let used = Used {
            sandboxes: 1.0,
            cpus: 2.0,
            cpu_used: number / 7.0,
            memory_used: number * 104_857.0,
            memory_limit: 2_147_483_648.0,
            disk_used: number * 204_857.0,
            disk_size: 10_737_418_240.0,
        };
        metrics.sandbox_uses("acme", &format!("iz62km2v0zwlow3i{number:05}"), "rki5dems9wqfm4r03t7g", &used);
    }
    let text = metrics.encode()?;
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("scrape of 10,000 sandboxes", |bencher| bencher.iter(|| metrics.encode()));
    group.bench_function("the same bytes", |bencher| bencher.iter(|| black_box(text.as_str()).to_owned()));
    group.finish();
    Ok(())
}

fn route(criterion: &mut Criterion, stored: &Stored) -> anyhow::Result<()> {
    let record = decode::stored(&stored.event)?;
    // What is decoded on demand is kept in the view: each measurement has a fresh one.
    let view = || View::new(stored, &record, INSTANCE);
    let fresh = BatchSize::SmallInput;

    let filter = Filter::parse(r#"event_data.sandbox_metadata.env == "prod""#)?;
    criterion.bench_function("filter", |bencher| {
        bencher.iter_batched_ref(view, |view| filter.matches(view), fresh);
    });
    let template = Template::parse("e2b.{{ type }}.{{ sandbox_id }}", Escape::NatsSubject)?;
    criterion.bench_function("template", |bencher| {
        bencher.iter_batched_ref(view, |view| template.render(view), fresh);
    });
    let mut group = criterion.benchmark_group("encode");
    for (name, format) in [("json", Format::Json), ("raw", Format::Raw)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(view, |view| format.encode(view, Framing::Kafka), fresh);
        });
    }
    group.finish();
    let router = Router::new(&Settings::default(), Addressing::nats("e2b.{{ type }}.{{ sandbox_id }}")?)?;
    criterion.bench_function("route", |bencher| bencher.iter(|| router.route(black_box(stored), &record, INSTANCE)));
    Ok(())
}
