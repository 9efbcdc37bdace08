//! Who somebody is to Curfew: what a user name stands for, and whether [`People`] mean them.
//!
//! Names are opaque: compared byte for byte, never trimmed or folded.

use crate::api::{Decision, GrantedSubject, People, Requester, ServiceAccountReference, marks};

/// What an authenticated user name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// A person, or whatever the cluster's authenticators call a user.
    User(String),
    /// A service account.
    ServiceAccount(ServiceAccountReference),
    /// Another name of Kubernetes' own (`system:…`): nobody to whom access is ever granted.
    System,
}

impl Account {
    /// What `username` stands for.
    pub fn of(username: &str) -> Self {
        match username
            .strip_prefix(marks::SERVICE_ACCOUNT_USER)
            .map(|rest| rest.split_once(':'))
        {
            Some(Some((namespace, name))) if !namespace.is_empty() && !name.is_empty() => {
                Self::ServiceAccount(ServiceAccountReference {
                    namespace: namespace.into(),
                    name: name.into(),
                })
            }
            Some(_) => Self::System,
            None if username.starts_with("system:") || username.is_empty() => Self::System,
            None => Self::User(username.into()),
        }
    }

    /// Whether groups say anything about `username`: never about Kubernetes' own accounts, which are in groups by the thousand.
    pub fn counts_by_group(username: &str) -> bool {
        matches!(Self::of(username), Self::User(_))
    }

    /// The subject to bind, if one may be bound.
    pub fn subject(&self) -> Option<GrantedSubject> {
        match self {
            Self::User(name) => Some(GrantedSubject {
                kind: "User".into(),
                name: name.clone(),
                namespace: None,
            }),
            Self::ServiceAccount(ServiceAccountReference { namespace, name }) => Some(GrantedSubject {
                kind: "ServiceAccount".into(),
                name: name.clone(),
                namespace: Some(namespace.clone()),
            }),
            Self::System => None,
        }
    }
}

/// Whether `people` mean this requester: by name, or by a group they were in when they asked.
pub fn includes(people: &People, requester: &Requester) -> bool {
    let Requester {
        username,
        uid: _,
        groups,
    } = requester;
    people.usernames().contains(username)
        || (Account::counts_by_group(username) && groups.iter().any(|group| people.groups.contains(group)))
}

/// Whether `entry` of a decision's `via` lets `username` speak in `place` for these accounts and groups. Admission attests that the entry is true of
/// the speaker; this says whether it means anything.
pub fn lets_in(entry: &str, place: &str, username: &str, usernames: &[String], groups: &[String]) -> bool {
    let Some((said_place, who)) = entry.split_once('/') else {
        return false;
    };
    if said_place != place {
        return false;
    }
    match who.strip_prefix("User:") {
        Some(user) => user == username && usernames.iter().any(|name| name == username),
        None => attests_group(entry, username, groups),
    }
}

/// Whether who spoke this word is one of `people`: by name, or by a group that what let them speak attests, wherever that was.
pub fn is_one_of(people: &People, word: &Decision) -> bool {
    let mut entries = word.via.iter();
    people.usernames().contains(&word.username)
        || entries.any(|entry| attests_group(entry, &word.username, &people.groups))
}

/// Whether `entry` of a decision's `via`, in whatever place it was spoken, attests that `username` is in one of these groups.
fn attests_group(entry: &str, username: &str, groups: &[String]) -> bool {
    let group = entry.split_once('/').and_then(|(_, who)| who.strip_prefix("Group:"));
    group.is_some_and(|group| Account::counts_by_group(username) && groups.iter().any(|name| name == group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requester(username: &str, groups: &[&str]) -> Requester {
        Requester {
            username: username.into(),
            uid: String::new(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
        }
    }

    #[test]
    fn a_user_name_stands_for_a_person_a_service_account_or_nobody() {
        assert_eq!(Account::of("alice"), Account::User("alice".into()));
        assert_eq!(Account::of("Alice "), Account::User("Alice ".into()));
        assert_eq!(
            Account::of("system:serviceaccount:ci:deployer"),
            Account::ServiceAccount(ServiceAccountReference {
                namespace: "ci".into(),
                name: "deployer".into()
            })
        );
        for system in [
            "",
            "system:admin",
            "system:node:n1",
            "system:serviceaccount:",
            "system:serviceaccount:ci",
            "system:serviceaccount::x",
            "system:serviceaccount:ci:",
        ] {
            assert_eq!(Account::of(system), Account::System, "{system}");
        }
    }

    #[test]
    fn service_accounts_are_meant_only_where_they_are_named() {
        let by_group = People {
            groups: vec!["system:authenticated".into()],
            ..People::default()
        };
        assert!(includes(&by_group, &requester("alice", &["system:authenticated"])));
        assert!(!includes(
            &by_group,
            &requester("system:serviceaccount:ci:deployer", &["system:authenticated"])
        ));
        let named = People {
            service_accounts: vec![ServiceAccountReference {
                namespace: "ci".into(),
                name: "deployer".into(),
            }],
            ..People::default()
        };
        assert!(includes(&named, &requester("system:serviceaccount:ci:deployer", &[])));
        assert!(!includes(&named, &requester("system:serviceaccount:ci:other", &[])));
    }

    #[test]
    fn names_are_compared_byte_for_byte() {
        let people = People {
            users: vec!["alice".into()],
            ..People::default()
        };
        for other in ["Alice", "alice ", " alice", "alice\n", "аlice"] {
            assert!(!includes(&people, &requester(other, &[])), "{other:?}");
        }
    }

    #[test]
    fn an_entry_of_via_lets_in_only_who_is_named_in_that_place() {
        let (users, groups) = (vec!["bob".to_owned()], vec!["sre".to_owned()]);
        for (entry, username, expected) in [
            ("lead/User:bob", "bob", true),
            ("lead/User:bob", "carol", false),
            ("lead/User:carol", "carol", false),
            ("other/User:bob", "bob", false),
            ("lead/Group:sre", "carol", true),
            ("lead/Group:dev", "carol", false),
            ("lead/Group:sre", "system:serviceaccount:ci:deployer", false),
            ("requester", "bob", false),
            ("lead/bob", "bob", false),
            ("", "bob", false),
        ] {
            assert_eq!(
                lets_in(entry, "lead", username, &users, &groups),
                expected,
                "{entry} {username}"
            );
        }
    }
}
