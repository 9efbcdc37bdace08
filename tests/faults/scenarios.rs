//! The scenarios that every fault is tried on. One more in this list is swept at once.
//!
//! A scenario says what its people do and how it ends when nothing goes wrong. What people do by nature, trying again what was refused and approving again
//! what was offered anew, is in `asked.rs`.

use curfew::api::{EndReason, RequestPhase};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};

use crate::asked::Asked;
use crate::instance::Instance;

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The request's last phase; `None`: it is gone.
    pub request: Option<RequestPhase>,
    /// What became of the grant.
    pub grant: Fate,
}

/// What becomes of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There never was one.
    Never,
    /// It ended.
    Ended(EndReason),
    /// It was deleted.
    Gone,
}

/// What is asked for, and under which policy.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub lasts: Lasts,
    /// So many must approve.
    pub approvals: usize,
    /// `Role`, in the instance's namespace, or `ClusterRole`.
    pub role: &'static str,
    /// Whether the request names its policy.
    pub names_policy: bool,
    /// Whether it is asked for in two namespaces.
    pub in_two: bool,
    /// Whether it is asked for in the whole cluster.
    pub cluster_wide: bool,
    /// After so many seconds it is to begin, if not at once.
    pub begins: Option<i64>,
    /// Whether the policy lets nobody have two accesses at once.
    pub one_at_a_time: bool,
    /// More of the policy's spec.
    pub policy: fn() -> Value,
}

/// How long access is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// A few seconds: the deadline ends it.
    Seconds(u64),
    /// Longer than the sweep: something else ends it.
    Long,
    /// The same, and nobody else's access ends within minutes of it: the anchor's calls are this instance's own.
    LongAlone,
}

const USUAL: Terms = Terms {
    lasts: Lasts::Long,
    approvals: 1,
    role: "Role",
    names_policy: true,
    in_two: false,
    cluster_wide: false,
    begins: None,
    one_at_a_time: false,
    policy: || json!({}),
};

/// One story.
pub struct Scenario {
    pub name: &'static str,
    pub terms: Terms,
    pub play: for<'a> fn(&'a Instance) -> LocalBoxFuture<'a, ()>,
    /// How each of its requests ends, in the order in which they were made.
    pub ends: &'static [End],
    /// How the first may end as well, where people race with the operator.
    pub or: &'static [End],
}

macro_rules! scenario {
    ($name:literal, $terms:expr, $request:expr, $grant:expr, |$it:ident| $play:block) => {
        Scenario {
            name: $name,
            terms: $terms,
            play: |$it| async move { $play }.boxed_local(),
            ends: &[End {
                request: $request,
                grant: $grant,
            }],
            or: &[],
        }
    };
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    use EndReason::{
        AnchorBroken, Denied, Drifted, Expired, Extended, PolicyChanged, RequestDeleted, Revoked, RoleChanged,
        TargetGone,
    };
    use Fate::{Ended, Gone, Never};
    let seconds = Terms {
        lasts: Lasts::Seconds(8),
        ..USUAL
    };
    let alone = Terms {
        lasts: Lasts::LongAlone,
        ..USUAL
    };
    let in_two = Terms {
        in_two: true,
        role: "ClusterRole",
        ..USUAL
    };
    let cluster_wide = Terms {
        cluster_wide: true,
        role: "ClusterRole",
        policy: || json!({"clusterWide": true}),
        ..USUAL
    };
    vec![
        scenario!("expired", seconds, Some(RequestPhase::Expired), Ended(Expired), |it| {
            it.first().asks().await;
            it.first().is_approved().await;
        }),
        scenario!(
            "expired under a ClusterRole and a policy that wasn't named, with two approvals",
            Terms {
                approvals: 2,
                role: "ClusterRole",
                names_policy: false,
                ..seconds
            },
            Some(RequestPhase::Expired),
            Ended(Expired),
            |it| {
                it.first().asks().await;
                it.first().is_approved().await;
            }
        ),
        scenario!(
            "expired under a chain whose second stage escalates",
            Terms {
                approvals: 2,
                policy: || {
                    json!({"approval": {"stages": [
                        {"name": "lead", "approvers": {"users": ["bob"]}},
                        {"name": "security", "approvers": {"users": ["dave"]}, "timeout": "2s", "escalateTo": {"users": ["carol"]}},
                    ]}})
                },
                ..seconds
            },
            Some(RequestPhase::Expired),
            Ended(Expired),
            |it| {
                it.first().asks().await;
                it.first().is_approved().await;
            }
        ),
        scenario!("revoked", alone, Some(RequestPhase::Revoked), Ended(Revoked), |it| {
            it.first().gets_access().await;
            it.first().approver_says("revoke").await;
        }),
        scenario!(
            "expired in two namespaces",
            Terms {
                lasts: seconds.lasts,
                ..in_two
            },
            Some(RequestPhase::Expired),
            Ended(Expired),
            |it| {
                it.first().asks().await;
                it.first().is_approved().await;
            }
        ),
        scenario!(
            "binding in one of two namespaces deleted while active",
            in_two,
            Some(RequestPhase::Revoked),
            Ended(Drifted),
            |it| {
                it.first().gets_access().await;
                it.deletes_binding().await;
            }
        ),
        scenario!(
            "expired in the whole cluster",
            Terms {
                lasts: seconds.lasts,
                ..cluster_wide
            },
            Some(RequestPhase::Expired),
            Ended(Expired),
            |it| {
                it.first().asks().await;
                it.first().is_approved().await;
            }
        ),
        // It may be over before it could begin: then it never does.
        Scenario {
            or: &[End {
                request: Some(RequestPhase::Expired),
                grant: Never,
            }],
            ..scenario!(
                "expired after a later start",
                Terms {
                    begins: Some(6),
                    ..seconds
                },
                Some(RequestPhase::Expired),
                Ended(Expired),
                |it| {
                    it.first().asks().await;
                    it.first().is_approved().await;
                }
            )
        },
        scenario!(
            "expired after the glass was broken, and reviewed",
            Terms {
                approvals: 0,
                policy: || json!({"approval": {"breakGlass": {}}, "review": {"approvers": {"users": ["carol"]}}}),
                ..seconds
            },
            Some(RequestPhase::Expired),
            Ended(Expired),
            |it| {
                it.first().asks().await;
                it.first().is_reviewed().await;
            }
        ),
        scenario!(
            "expired and kept for a second",
            Terms {
                policy: || json!({"retention": "1s", "limits": {"activePerRequester": 1000}}),
                ..seconds
            },
            None,
            Gone,
            |it| {
                it.first().asks().await;
                it.first().is_approved().await;
                it.is_removed().await;
            }
        ),
        scenario!("denied", USUAL, Some(RequestPhase::Denied), Never, |it| {
            it.first().asks().await;
            it.first().approver_says("deny").await;
        }),
        scenario!("withdrawn", USUAL, Some(RequestPhase::Withdrawn), Never, |it| {
            it.first().asks().await;
            it.first().requester_says("revoke").await;
        }),
        scenario!("request deleted while pending", USUAL, None, Never, |it| {
            it.first().asks().await;
            it.first().is_deleted().await;
        }),
        scenario!(
            "request deleted while active",
            USUAL,
            None,
            Ended(RequestDeleted),
            |it| {
                it.first().gets_access().await;
                it.first().is_deleted().await;
            }
        ),
        scenario!(
            "grant deleted while active",
            USUAL,
            Some(RequestPhase::Revoked),
            Gone,
            |it| {
                it.first().gets_access().await;
                it.deletes_grant().await;
            }
        ),
        scenario!(
            "grant deleted while active in the whole cluster",
            cluster_wide,
            Some(RequestPhase::Revoked),
            Gone,
            |it| {
                it.first().gets_access().await;
                it.deletes_grant().await;
            }
        ),
        scenario!(
            "binding deleted while active",
            USUAL,
            Some(RequestPhase::Revoked),
            Ended(Drifted),
            |it| {
                it.first().gets_access().await;
                it.deletes_binding().await;
            }
        ),
        scenario!(
            "role grown while active",
            USUAL,
            Some(RequestPhase::Revoked),
            Ended(RoleChanged),
            |it| {
                it.first().gets_access().await;
                it.grows_role().await;
            }
        ),
        scenario!(
            "ClusterRole grown while active",
            Terms {
                role: "ClusterRole",
                ..USUAL
            },
            Some(RequestPhase::Revoked),
            Ended(RoleChanged),
            |it| {
                it.first().gets_access().await;
                it.grows_role().await;
            }
        ),
        scenario!(
            "policy changed while active",
            Terms {
                policy: || json!({"onPolicyChange": "Revoke"}),
                ..USUAL
            },
            Some(RequestPhase::Revoked),
            Ended(PolicyChanged),
            |it| {
                it.first().gets_access().await;
                it.changes_policy().await;
            }
        ),
        scenario!(
            "anchor deleted while active",
            alone,
            Some(RequestPhase::Revoked),
            Ended(AnchorBroken),
            |it| {
                it.first().gets_access().await;
                it.deletes_anchor().await;
            }
        ),
        // What of it is seen first ends the access.
        Scenario {
            or: &[
                End {
                    request: None,
                    grant: Ended(RequestDeleted),
                },
                End {
                    request: None,
                    grant: Ended(Drifted),
                },
            ],
            ..scenario!("namespace deleted while active", USUAL, None, Ended(TargetGone), |it| {
                it.first().gets_access().await;
                it.deletes_namespace().await;
            })
        },
        Scenario {
            ends: &[
                End {
                    request: Some(RequestPhase::Expired),
                    grant: Ended(Extended),
                },
                End {
                    request: Some(RequestPhase::Revoked),
                    grant: Ended(Revoked),
                },
            ],
            ..scenario!(
                "extended while active, and revoked",
                Terms {
                    policy: || json!({"maxTotalDuration": "8000h", "limits": {"activePerRequester": 1}}),
                    ..USUAL
                },
                Some(RequestPhase::Expired),
                Ended(Extended),
                |it| {
                    let (first, longer) = (it.first(), it.second());
                    first.gets_access().await;
                    if longer.asks_to_extend(first).await {
                        longer.is_approved().await;
                        longer.is_active().await;
                        longer.or_the_other_is_over(first).await;
                        longer.approver_says("revoke").await;
                    }
                    first.approver_says("revoke").await;
                }
            )
        },
        Scenario {
            ends: &[End {
                request: Some(RequestPhase::Revoked),
                grant: Ended(Revoked),
            }; 2],
            ..scenario!(
                "two asked for in one moment, one at a time, and each revoked",
                Terms {
                    one_at_a_time: true,
                    policy: || json!({"limits": {"activePerRequester": 1}}),
                    ..USUAL
                },
                Some(RequestPhase::Revoked),
                Ended(Revoked),
                |it| {
                    let each = async |asked: Asked<'_>| {
                        asked.gets_access().await;
                        asked.approver_says("revoke").await;
                    };
                    futures::join!(each(it.first()), each(it.second()));
                }
            )
        },
        // Whatever befalls the making of its anchor: it is granted with one or without.
        scenario!(
            "revoked under a policy that can do without an anchor",
            Terms {
                policy: || json!({"deadMansSwitch": "BestEffort"}),
                ..alone
            },
            Some(RequestPhase::Revoked),
            Ended(Revoked),
            |it| {
                it.first().gets_access().await;
                it.first().approver_says("revoke").await;
            }
        ),
        // A denial that is stored before the seal wins; after it, it is refused.
        Scenario {
            // The denial was stored before the seal. When what the operator needs to read is held up, the grant that waits for its seal ends first.
            or: &[
                End {
                    request: Some(RequestPhase::Denied),
                    grant: Ended(Denied),
                },
                End {
                    request: Some(RequestPhase::Denied),
                    grant: Ended(Expired),
                },
            ],
            ..scenario!(
                "denied just when it is granted",
                seconds,
                Some(RequestPhase::Expired),
                Ended(Expired),
                |it| {
                    it.first().asks().await;
                    let denies = async {
                        it.first().has_a_grant().await;
                        it.first().approver_says("deny").await;
                    };
                    futures::join!(it.first().is_approved(), denies);
                }
            )
        },
    ]
}
