//! Streams: how one is created, and how it is told what keeps a record out of one.

use super::*;
use bytesize::ByteSize;
use e2b_relay::sink::nats::Discard;

#[tokio::test]
async fn a_stream_is_created_as_the_settings_say_and_never_changed() {
    let url = nats();
    let (mut settings, name) = with_stream(&url);
    let wanted = Stream {
        max_age: Some(Duration::from_secs(3600)),
        max_bytes: Some(ByteSize::mib(2)),
        discard: Discard::New,
        duplicate_window: Duration::from_secs(600),
        ..settings.stream.clone().expect("a stream")
    };
    settings.stream = Some(wanted.clone());
    let first = sink(settings.clone());
    deliver_all(&first, &[record(&format!("{name}.x"), "sbx", 0)]).await;
    let context = jetstream::new(client(&url).await);
    let config = async || context.get_stream(&name).await.expect("the stream").cached_info().config.clone();
    let created = config().await;
    assert_eq!(created.max_age, Duration::from_secs(3600));
    assert_eq!((created.max_bytes, created.discard), (2 << 20, stream::DiscardPolicy::New));
    assert_eq!((created.duplicate_window, created.num_replicas), (Duration::from_secs(600), 1));
    assert_eq!(created.storage, stream::StorageType::File);
    let probed = first.probe().await.expect("it is there");
    let told = format!(
        "stream {name} (subjects {name}.>, duplicate window 600s, keeps a record for 3600s, at most 2097152 bytes)"
    );
    assert!(probed.ends_with(&told), "{probed}");

    settings.stream = Some(Stream { max_age: None, max_bytes: None, ..wanted });
    deliver_all(&sink(settings), &[record(&format!("{name}.x"), "sbx", 1)]).await;
    assert_eq!(config().await.max_bytes, created.max_bytes);
}

/// What keeps a record out, and what is said of it.
#[tokio::test]
async fn what_keeps_a_record_out_is_told_apart() {
    let access = r#"
accounts {
  limited: { jetstream: { max_file: 1MB }, users: [ { user: limited, password: p } ] }
  none: { users: [ { user: none, password: p } ] }
  full: { jetstream: enabled, users: [ { user: full, password: p } ] }
}
"#;
    let server = Broker::start_nats_with(access.to_owned()).await;
    let url = server.address();
    let at = |user: &str| format!("nats://{user}:p@{}", host(&url));
    let large = |name: &str, number: usize| {
        let payload = vec![b'x'; 300_000].into();
        Arc::new(Outgoing { payload, ..(*record(&format!("{name}.x"), "sbx", number)).clone() })
    };
    let until_refused = async |sink: &Nats, name: &str| {
        let mut last = Ok(());
        for number in 0..10 {
            if last.is_err() {
                break;
            }
            last = outcome(sink.send(large(name, number))).await;
        }
        last
    };
    for (user, limit, reason, part) in [
        ("limited", None, Reason::Rejected, "resource limits exceeded for account"),
        ("full", Some(ByteSize::mb(1)), Reason::Rejected, "maximum bytes exceeded"),
        ("none", None, Reason::Auth, "JetStream not enabled for account"),
    ] {
        let (mut settings, name) = with_stream(&at(user));
        let stream = settings.stream.as_mut().expect("a stream");
        (stream.max_bytes, stream.discard) = (limit, Discard::New);
        let message = assert_retry(&until_refused(&sink(settings), &name).await, Scope::Sink, reason);
        assert!(message.contains(part), "{user}: {message}");
    }
    // Nobody there who would store it, with no stream named.
    let message = assert_retry(
        &outcome(sink(settings(&at("none"))).send(record("e2b.x", "sbx", 0))).await,
        Scope::Sink,
        Reason::Unroutable,
    );
    assert!(message.contains("no stream at") && message.contains("nats stream add"), "{message}");
    // Sealed: never again, and the same for all.
    let (settings, name) = with_stream(&at("full"));
    let sealed = sink(settings);
    outcome(sealed.send(record(&format!("{name}.x"), "sbx", 0))).await.expect("stored");
    let admin = async_nats::ConnectOptions::with_user_and_password("full".into(), "p".into());
    let context = jetstream::new(admin.connect(host(&url)).await.expect("connected"));
    let mut config = context.get_stream(&name).await.expect("the stream").cached_info().config.clone();
    config.sealed = true;
    context.update_stream(config).await.expect("sealed");
    let message = assert_retry(
        &outcome(sealed.send(record(&format!("{name}.x"), "sbx", 1))).await,
        Scope::Sink,
        Reason::Rejected,
    );
    assert!(message.contains("sealed"), "{message}");
}

#[tokio::test]
async fn a_missing_stream_is_named_with_the_command_that_makes_it() {
    let (mut settings, name) = with_stream(&nats());
    settings.stream.as_mut().expect("a stream").create = false;
    let sink = sink(settings);
    let told = [
        assert_retry(
            &outcome(sink.send(record(&format!("{name}.x"), "sbx", 0))).await,
            Scope::Sink,
            Reason::Unroutable,
        ),
        sink.probe().await.expect_err("it is missing").to_string(),
    ];
    for message in told {
        let command = format!("`nats stream add {name} --subjects '{name}.>' --defaults`");
        assert!(message.contains(&command), "{message}");
    }
}
