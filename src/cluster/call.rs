//! One call to the API server: bounded in time, its failure named by what was tried.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::core::Status;
use tower::timeout::TimeoutLayer;

/// How long one call may take. The client itself, made as ours is, retries nothing.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long it may take until an answer begins. Whoever opens a watch, or lists for one, has no limit but this.
const ANSWERED: Duration = Duration::from_secs(12);

/// What bounds how long a client waits for answers to begin: on a connection that died unnoticed none ever would.
pub fn answered() -> TimeoutLayer {
    TimeoutLayer::new(ANSWERED)
}

/// A call that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time. Whether it took effect is not known.
    #[error("{what}: no answer within {} s", limit.as_secs())]
    TimedOut {
        /// What was tried.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The API server said no.
    #[error("{what}: {} (HTTP {})", status.message, status.code)]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What it said.
        status: Box<Status>,
    },
    /// The API server could not be reached, or its answer not be read. Whether it took effect is not known.
    #[error("{what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: Arc<kube::Error>,
    },
    /// Another replica grants, or none. If it was under way, whether it took effect is not known.
    #[error("{what}: this replica doesn't grant now")]
    NotLeading {
        /// What was to be done.
        what: &'static str,
    },
}

impl CallError {
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused { status, .. } => Some(status),
            Self::TimedOut { .. } | Self::Failed { .. } | Self::NotLeading { .. } => None,
        }
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Somebody else wrote it in between, or it isn't the object that was meant.
    pub fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 409 && status.reason == "Conflict")
    }

    /// An object of that name is there.
    pub fn is_already_exists(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 409 && status.reason == "AlreadyExists")
    }

    /// It was a matter of the replica that grants, and this one isn't it.
    pub fn is_not_leading(&self) -> bool {
        matches!(self, Self::NotLeading { .. })
    }

    /// The API server will say the same the next time: it understood, and refused.
    pub fn is_final(&self) -> bool {
        self.status()
            .is_some_and(|status| matches!(status.code, 400 | 403 | 404 | 405 | 422))
    }

    /// Trying again soon may help: there was no answer, or the API server has too much to do. It says 500 also for what doesn't pass, such as a range of
    /// addresses that is full.
    pub fn may_pass(&self) -> bool {
        self.status()
            .is_none_or(|status| matches!(status.code, 409 | 429 | 502..=504))
    }

    /// For metrics: one of a few words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "timeout",
            Self::Failed { .. } => "unreachable",
            Self::NotLeading { .. } => "not_leading",
            Self::Refused { status, .. } => match status.code {
                403 => "forbidden",
                404 => "not_found",
                409 => "conflict",
                422 => "invalid",
                429 => "throttled",
                500.. => "server_error",
                _ => "refused",
            },
        }
    }
}

/// Makes one call, within [`LIMIT`].
///
/// # Errors
/// When it failed, was refused, or had no answer in time.
pub async fn call<T>(what: &'static str, future: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    call_within(LIMIT, what, future).await
}

/// Makes one call, within `limit`.
///
/// # Errors
/// As [`call`].
pub async fn call_within<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(CallError::Refused { what, status }),
        Ok(Err(source)) => Err(CallError::Failed {
            what,
            source: Arc::new(source),
        }),
        Err(_) => Err(CallError::TimedOut { what, limit }),
    }
}

/// Makes one read, for which "there is none" is an answer.
///
/// # Errors
/// As [`call`], but for 404.
pub async fn find<T>(
    what: &'static str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, CallError> {
    find_within(LIMIT, what, future).await
}

/// Makes one read, for which "there is none" is an answer, within `limit`.
///
/// # Errors
/// As [`call`], but for 404.
pub async fn find_within<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, CallError> {
    match call_within(limit, what, future).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes the object of this uid, in this version if one is said, and no other of its name; what it owns goes after it.
pub fn only_this(uid: Option<String>, version: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: version,
        }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use futures::StreamExt;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::Api;
    use kube::client::{Body, ClientBuilder};
    use kube::runtime::watcher;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_opened_on_a_dead_connection_is_opened_again() {
        let dead =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, tower::BoxError>>());
        let client = ClientBuilder::new(dead, "default").with_layer(&answered()).build();
        let begun = Instant::now();
        let mut events = watcher(Api::<Namespace>::all(client), watcher::Config::default()).boxed();
        for times in 1..3 {
            while let Some(Ok(_)) = events.next().await {}
            assert_eq!(begun.elapsed().as_secs(), times * ANSWERED.as_secs());
        }
    }
}
