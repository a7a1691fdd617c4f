//! The one integration-test binary.

mod settings;
