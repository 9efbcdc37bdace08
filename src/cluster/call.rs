//! One call to the API server: bounded in time, its failure named by what was tried.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::core::Status;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How long one call may take. The client itself, made as ours is, retries nothing.
pub const LIMIT: Duration = Duration::from_secs(10);
/// An API server's answer is quoted up to so many characters.
const QUOTED: usize = 300;
/// So long the API server works on a call at most: a little over its 34 s.
pub const AT_LAST: Duration = Duration::from_secs(36);

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

    /// What the API server said, for people; whoever wrote it, it isn't long.
    pub fn quoted(&self) -> String {
        self.to_string().chars().take(QUOTED).collect()
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

/// Makes one call, within [`LIMIT`], and doesn't call it back then: the API server carries out what nobody waits for any more only as far as it has come, and
/// somebody's webhook that never answers it waits for as long as for an answer here. What it does later is seen by the next call.
///
/// # Errors
/// As [`call`].
pub async fn call_for_good<T: Send + 'static>(
    what: &'static str,
    future: impl Future<Output = kube::Result<T>> + Send + 'static,
) -> Result<T, CallError> {
    let called = tokio::spawn(call_within(AT_LAST, what, future));
    match tokio::time::timeout(LIMIT, called).await {
        Ok(Ok(answered)) => answered,
        // It never panics, and is cancelled only with all else.
        Ok(Err(_)) | Err(_) => Err(CallError::TimedOut { what, limit: LIMIT }),
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

/// Reads one object by a name that somebody has written, in a namespace that somebody has written. What can't stand in a URL as it is names nothing that there
/// could be: the client puts names into URLs as they are, and `?watch=true` would be another call.
///
/// # Errors
/// As [`find`].
pub async fn find_named<K>(what: &'static str, api: &Api<K>, name: &str) -> Result<Option<K>, CallError>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    match is_place(api) && is_one_segment(name) {
        true => find(what, api.get(name)).await,
        false => Ok(None),
    }
}

/// Whether there could be anything: the namespace, where there is one, can be one.
pub fn is_place<K: Resource>(api: &Api<K>) -> bool {
    api.namespace().is_none_or(is_one_segment)
}

/// Whether a name stands for itself in the path of a URL (RFC 3986, `pchar`).
fn is_one_segment(name: &str) -> bool {
    let stands = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=".contains(&byte);
    !matches!(name, "" | "." | "..") && name.bytes().all(stands)
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    /// They are a metric's label.
    #[test]
    fn what_a_call_failed_by_is_one_of_a_few_words() {
        let what = "trying";
        let refused = |code: u16| {
            let status = Box::new(Status {
                code,
                ..Status::default()
            });
            CallError::Refused { what, status }
        };
        let failed = Arc::new(kube::Error::LinesCodecMaxLineLengthExceeded);
        for (error, kind, is_final, may_pass) in [
            (CallError::TimedOut { what, limit: LIMIT }, "timeout", false, true),
            (CallError::Failed { what, source: failed }, "unreachable", false, true),
            (CallError::NotLeading { what }, "not_leading", false, true),
            (refused(400), "refused", true, false),
            (refused(403), "forbidden", true, false),
            (refused(404), "not_found", true, false),
            (refused(409), "conflict", false, true),
            (refused(422), "invalid", true, false),
            (refused(429), "throttled", false, true),
            (refused(500), "server_error", false, false),
            (refused(503), "server_error", false, true),
        ] {
            let found = (error.kind(), error.is_final(), error.may_pass());
            assert_eq!(found, (kind, is_final, may_pass), "{error}");
        }
    }

    #[test]
    fn what_the_api_server_said_is_quoted_as_far_as_it_is_for_people() {
        let said = |message: String| {
            let status = Box::new(Status {
                message,
                ..Status::default()
            });
            CallError::Refused { what: "trying", status }.quoted()
        };
        assert!(said("it is down".to_owned()).contains("it is down"));
        assert_eq!(said("ü".repeat(5000)).chars().count(), 300);
    }

    #[test]
    fn a_name_is_put_into_a_url_only_if_it_says_nothing_else_there() {
        for name in ["reader", "system:aggregate-to-view", "a.b-c", "...", "@(x)"] {
            assert!(is_one_segment(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "?",
            "?watch=true&x=1",
            "a/b",
            "../secrets",
            "a%2fb",
            "#",
            "a b",
            "a\n",
            "rôle",
        ] {
            assert!(!is_one_segment(name), "{name:?}");
        }
    }

    /// Somebody's webhook that is never answered and may be passed over takes as long as a call may, and then the API server does what it was told.
    #[tokio::test(start_paused = true)]
    async fn what_is_called_for_good_is_done_although_nobody_waits_for_it_any_more() {
        let (begun, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let told = Arc::clone(&done);
        let late = async move {
            sleep(Duration::from_secs(34)).await;
            told.store(begun.elapsed().as_secs(), Ordering::SeqCst);
            Ok(())
        };
        let answered = call_for_good("deleting", late).await;
        assert!(matches!(answered, Err(CallError::TimedOut { .. })), "{answered:?}");
        assert_eq!(begun.elapsed(), LIMIT);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(done.load(Ordering::SeqCst), 34);
    }
}
