//! Bindings of both kinds behind one door, in the core's form: what has no namespace is a ClusterRoleBinding.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};

use super::call::{CallError, find_named};

/// The way to them.
pub struct Bindings(Client);

impl Bindings {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// The binding of that name in a namespace, or in the whole cluster, if there is one.
    ///
    /// # Errors
    /// When the API server couldn't be asked, or refused.
    pub async fn find(&self, namespace: Option<&str>, name: &str) -> Result<Option<RoleBinding>, CallError> {
        match namespace {
            Some(namespace) => {
                let bindings = Api::<RoleBinding>::namespaced(self.0.clone(), namespace);
                find_named("reading the RoleBinding", &bindings, name).await
            }
            None => {
                let bindings = Api::<ClusterRoleBinding>::all(self.0.clone());
                let found = find_named("reading the ClusterRoleBinding", &bindings, name).await?;
                Ok(found.map(|found| in_one_form(&found)))
            }
        }
    }

    /// Creates it. For whoever may grant: there is no time limit here.
    ///
    /// # Errors
    /// As the API server answers.
    pub async fn create(&self, binding: &RoleBinding) -> kube::Result<RoleBinding> {
        let parameters = PostParams::default();
        match &binding.metadata.namespace {
            Some(namespace) => {
                let bindings = Api::namespaced(self.0.clone(), namespace);
                bindings.create(&parameters, binding).await
            }
            None => {
                let bindings = Api::all(self.0.clone());
                let created = bindings.create(&parameters, &cluster_wide(binding)).await?;
                Ok(in_one_form(&created))
            }
        }
    }
}

/// A ClusterRoleBinding in the core's form.
pub fn in_one_form(binding: &ClusterRoleBinding) -> RoleBinding {
    let ClusterRoleBinding {
        metadata,
        role_ref,
        subjects,
    } = binding.clone();
    RoleBinding {
        metadata,
        role_ref,
        subjects,
    }
}

fn cluster_wide(binding: &RoleBinding) -> ClusterRoleBinding {
    let RoleBinding {
        metadata,
        role_ref,
        subjects,
    } = binding.clone();
    ClusterRoleBinding {
        metadata,
        role_ref,
        subjects,
    }
}
