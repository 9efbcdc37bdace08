//! Who is meant: users, groups and service accounts, by name.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// People and service accounts, by name. Names are compared byte for byte: no trimming, no case folding, no wildcards.
///
/// A service account counts only when it is named under `serviceAccounts`; a group never lets one in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct People {
    /// User names, exactly as the API server authenticates them (`kubectl auth whoami` shows yours).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(validation = Rule::new("self.all(name, !name.startsWith('system:serviceaccount:'))").message("service accounts are named under serviceAccounts"))]
    pub users: Vec<String>,
    /// Group names, exactly as the API server authenticates them. Service accounts are never let in by a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub groups: Vec<String>,
    /// Service accounts, each by namespace and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub service_accounts: Vec<ServiceAccountReference>,
}

/// One service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountReference {
    /// The namespace that the service account lives in.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// The service account's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl ServiceAccountReference {
    /// The user name under which the API server knows this service account.
    pub fn username(&self) -> String {
        format!("{}{}:{}", super::marks::SERVICE_ACCOUNT_USER, self.namespace, self.name)
    }
}

impl People {
    /// Whether nobody at all is named.
    pub fn is_empty(&self) -> bool {
        let Self {
            users,
            groups,
            service_accounts,
        } = self;
        users.is_empty() && groups.is_empty() && service_accounts.is_empty()
    }

    /// All single accounts by the user name that the API server gives them: the users, then the service accounts.
    pub fn usernames(&self) -> Vec<String> {
        let Self {
            users,
            groups: _,
            service_accounts,
        } = self;
        users
            .iter()
            .cloned()
            .chain(service_accounts.iter().map(ServiceAccountReference::username))
            .collect()
    }
}
