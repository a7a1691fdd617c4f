//! Both listeners: binding, TLS, HTTP/1.1 and HTTP/2 over one port, and what one peer may cost.
//!
//! Our own accept loop, since a listener on the open internet must bound what strangers hold: connections, time to send
//! a header, time to send a body, buffers per connection.

mod activity;
mod connection;
mod connections;
mod inherited;
mod io;
mod listener;
mod public;
mod settings;
mod tls;

pub use inherited::{Inherited, InheritedError};
pub use listener::{BindError, Listener};
pub use public::{READY_PATH, public};
pub use settings::{Settings, TlsSettings};
