//! Why the API gave no answer that can be used.

use std::time::Duration;

/// One cause each; [`ApiError::outcome`] is the label that the contract has for it. No message holds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 401 or 403.
    #[error(
        "the API at {peer} refuses the key of `sources.{source_name}.api.api_key` ({status}): make a key of this team at \
         the provider, and put it there or into E2B_API_KEY"
    )]
    Unauthorized {
        /// The source's name in the settings.
        source_name: String,
        /// Host and port.
        peer: String,
        /// 401 or 403.
        status: u16,
    },
    /// 429, from the API or from what stands before it.
    #[error("the API at {peer} answers that it is asked too often (429)")]
    RateLimited {
        /// Host and port.
        peer: String,
        /// When it is worth to ask again, by the API's own words.
        retry_after: Option<Duration>,
    },
    /// No answer, or one that tells of trouble on the other side: 5xx, 408, a time-out, no connection.
    #[error("{problem}")]
    Unavailable {
        /// With the peer.
        problem: String,
        /// When it is worth to ask again, by the API's own words.
        retry_after: Option<Duration>,
    },
    /// 404 where the route itself is meant: this installation does not have it.
    #[error("the API at {peer} does not offer {path} (404)")]
    NotOffered {
        /// Host and port.
        peer: String,
        /// Without its parameters.
        path: String,
    },
    /// 404 where one thing was asked for.
    #[error("the API at {peer} does not know {path} (404)")]
    NotFound {
        /// Host and port.
        peer: String,
        /// Without its parameters.
        path: String,
    },
    /// Any other status: the request is not as this API wants it.
    #[error("the API at {peer} answers {status} to {path}: {message}")]
    Refused {
        /// Host and port.
        peer: String,
        /// Without its parameters.
        path: String,
        /// 300 to 499.
        status: u16,
        /// The API's own words, cut short.
        message: String,
    },
    /// 2xx, but not what the specification says: cut short, no JSON, other members.
    #[error("the API at {peer} answers {path} with something else than expected: {problem}")]
    Invalid {
        /// Host and port.
        peer: String,
        /// Without its parameters.
        path: String,
        /// What is wrong, without repeating the reply.
        problem: String,
    },
}

impl ApiError {
    /// `unauthorized`, `rate_limited`, `unavailable`, `not_offered` or `invalid`, as `backfill_polls_total` has it.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Unauthorized { .. } => "unauthorized",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::NotOffered { .. } => "not_offered",
            Self::NotFound { .. } | Self::Refused { .. } | Self::Invalid { .. } => "invalid",
        }
    }

    /// How long the API asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same request may well succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. } | Self::Invalid { .. })
    }
}
