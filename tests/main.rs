//! The one integration-test binary.

// So that clippy takes its helpers, too, for tests: they may unwrap and panic.
#![cfg(test)]

mod admin;
mod again;
mod avro;
mod backfill;
mod backup;
mod client;
mod cloudevents;
mod consumers;
mod damaged;
mod dev;
mod documents;
mod e2b;
mod faults;
mod first_contact;
mod fuzz;
mod health;
mod image;
mod kubernetes;
mod live;
mod operations;
mod packages;
mod page;

mod receiver;
mod redact;
mod register;
mod relay;
mod reload;
mod sdk;
mod settings;
mod simulate;
mod simulator;
mod sink_amqp;
mod sink_file;
mod sink_kafka;
mod sink_nats;
mod store;
mod store_faults;
mod store_tail;
mod store_verify;
mod support;
mod systemd;
mod tidy;
mod upgrade;
mod watched;
mod workflow;
