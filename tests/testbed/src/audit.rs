//! The API server's audit log, read and typed.
//!
//! The log is written before an answer leaves the server wherever the answer is small (blocking, event by event), so a
//! request that was answered is there. Must not be used to drive the product: it is evidence, for tests.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Error, Result};

/// One request, at its end.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// The API server's id of this request.
    pub id: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Who presented the credential.
    pub user: AuditUser,
    /// As whom, if that was somebody else.
    pub impersonated: Option<AuditUser>,
    /// The path and query.
    pub uri: String,
    /// The client program.
    pub user_agent: String,
    /// The API group; empty for core resources and for paths that are no resource.
    pub group: String,
    /// The resource, such as `rolebindings`; empty for paths that are no resource.
    pub resource: String,
    /// The subresource, such as `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty for lists, and for creations whose name the server makes up.
    pub name: String,
    /// The HTTP status code.
    pub code: u16,
    /// When the request came.
    pub received: Timestamp,
    /// When it was answered.
    pub finished: Timestamp,
    /// Notes of the API server, such as `authorization.k8s.io/reason`.
    pub annotations: BTreeMap<String, String>,
    /// What was sent, for writes to the product's objects and RBAC.
    pub request: Option<Value>,
    /// What was answered, for the same.
    pub response: Option<Value>,
}

impl AuditEvent {
    /// Why authorisation let it in or not, such as `RBAC: allowed by RoleBinding "curfew-abc/team-a" of Role "pods" to User "alice"`.
    pub fn reason(&self) -> &str {
        self.annotations
            .get("authorization.k8s.io/reason")
            .map_or("", String::as_str)
    }

    /// Whether authorisation let it in.
    pub fn allowed(&self) -> bool {
        self.annotations
            .get("authorization.k8s.io/decision")
            .is_some_and(|decision| decision == "allow")
    }

    /// The user as whom it was done.
    pub fn actor(&self) -> &AuditUser {
        self.impersonated.as_ref().unwrap_or(&self.user)
    }
}

/// Somebody in the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuditUser {
    /// The user name.
    pub username: String,
    /// The uid; empty if the credential has none.
    pub uid: String,
    /// The groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: AuditUser,
    impersonated_user: Option<AuditUser>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Option<Status>,
    #[serde(borrow)]
    request_object: Option<&'a RawValue>,
    #[serde(borrow)]
    response_object: Option<&'a RawValue>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// How each line begins, and what stands nowhere else: within strings its quotes are escaped.
const BEGINNING: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/"#;

/// The requests that are over, in the order in which they ended. A last line that is still being written is left out,
/// and so is what a killed API server left of a line, to which the next one appends its own.
pub(crate) fn parse(log: &str) -> Result<Vec<AuditEvent>> {
    let whole = log.rfind('\n').map_or("", |end| log.get(..end).unwrap_or_default());
    let mut events = Vec::new();
    for line in whole
        .lines()
        .filter_map(|line| line.rfind(BEGINNING).and_then(|at| line.get(at..)))
        .filter(|line| line.contains(r#""stage":"ResponseComplete""#))
    {
        let raw: Raw<'_> = serde_json::from_str(line).map_err(Error::parse(format!("the audit log's line {line}")))?;
        if raw.stage != "ResponseComplete" {
            continue;
        }
        events.push(AuditEvent {
            id: raw.audit_id,
            verb: raw.verb,
            user: raw.user,
            impersonated: raw.impersonated_user,
            uri: raw.request_uri,
            user_agent: raw.user_agent,
            group: raw.object_ref.api_group,
            resource: raw.object_ref.resource,
            subresource: raw.object_ref.subresource,
            namespace: raw.object_ref.namespace,
            name: raw.object_ref.name,
            code: raw.response_status.map_or(0, |status| status.code),
            received: raw.request_received_timestamp,
            finished: raw.stage_timestamp,
            annotations: raw.annotations,
            request: raw.request_object.and_then(legible),
            response: raw.response_object.and_then(legible),
        });
    }
    Ok(events)
}

/// An object, if it isn't nested more deeply than JSON is read.
fn legible(object: &RawValue) -> Option<Value> {
    serde_json::from_str(object.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_lines_of_complete_requests_are_read() {
        let line = |stage: &str| {
            format!(
                r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"1","stage":"{stage}","requestURI":"/api","verb":"create","user":{{"username":"alice","groups":["dev"]}},"objectRef":{{"resource":"pods","namespace":"a","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":403}},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","stageTimestamp":"2026-01-02T03:04:06.000000Z","annotations":{{"authorization.k8s.io/decision":"forbid"}}}}"#
            )
        };
        let log = format!(
            "{}\n{}\n{}",
            line("ResponseStarted"),
            line("ResponseComplete"),
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"ResponseComplete""#
        );
        let events = parse(&log).unwrap();
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(
            (event.code, event.resource.as_str(), event.actor().username.as_str()),
            (403, "pods", "alice")
        );
        assert!(!event.allowed());
        assert!(event.finished > event.received);
    }
    #[test]
    fn what_a_killed_api_server_left_of_a_line_is_left_out() {
        let line = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"2","stage":"ResponseComplete","requestURI":"/api","verb":"get","user":{"username":"bob"},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","stageTimestamp":"2026-01-02T03:04:06.000000Z"}"#;
        let log = format!("{}{line}\n", &line[..150]);
        let events = parse(&log).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].user.username, "bob");
    }
}
