//! What the API server in memory stores, and the rules by which it is changed: versions, uids, generations, preconditions, finalizers. The contract tests
//! hold it to what a real one does.
//!
//! It knows nothing of HTTP, of who writes, or of Curfew. Every change is kept in a history, from which watches are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::kinds::Kind;

pub type Object = Arc<Value>;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub kind: Kind,
    /// Empty for what is in none.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.facts().namespaced { namespace } else { "" };
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub key: Key,
    pub before: Option<Object>,
    pub after: Option<Object>,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

pub fn refusal(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        reason,
        message: message.into(),
    }
}

/// What became of an object that was to be deleted.
#[derive(Clone, Debug)]
pub enum Deleted {
    Gone(Object),
    /// A finalizer holds it.
    Lingers(Object),
}

/// On which state of an object a write insists.
#[derive(Clone, Debug, Default)]
pub struct Only {
    pub uid: Option<String>,
    pub version: Option<String>,
}

#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Key, Object>,
    history: Vec<Change>,
    version: u64,
    born: u64,
    addresses: u64,
    /// Watches can't begin before this version.
    compacted: u64,
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// From now on nothing is known of what was before.
    pub fn compact(&mut self) {
        self.compacted = self.version;
    }

    /// What changed after this version, in order.
    pub fn since(&self, version: u64) -> &[Change] {
        let begins = self.history.partition_point(|change| change.version <= version);
        &self.history[begins..]
    }

    pub fn get(&self, key: &Key) -> Option<Object> {
        self.objects.get(key).cloned()
    }

    /// All of a kind, in one namespace or in all.
    pub fn all(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = (&Key, &Object)> {
        let first = Key::new(kind, namespace, "");
        let of_kind = self.objects.range(first..).take_while(move |(key, _)| key.kind == kind);
        let namespace = namespace.to_owned();
        of_kind.filter(move |(key, _)| namespace.is_empty() || key.namespace == namespace)
    }

    pub fn everything(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.iter()
    }

    pub fn find(&self, key: &Key) -> Result<Object, Refusal> {
        self.get(key).ok_or_else(|| not_found(key))
    }

    pub fn create(&mut self, key: &Key, object: Value, now: DateTime<Utc>) -> Result<Object, Refusal> {
        let facts = key.kind.facts();
        if facts.namespaced {
            let namespace = Key::new(Kind::Namespace, "", &key.namespace);
            let home = self.find(&namespace)?;
            if !home["metadata"]["deletionTimestamp"].is_null() {
                let message = format!(
                    "unable to create new content in namespace {} because it is being terminated",
                    key.namespace
                );
                return Err(refusal(403, "Forbidden", message));
            }
        }
        if self.objects.contains_key(key) {
            let message = format!("{}.{} {:?} already exists", facts.plural, facts.group, key.name);
            return Err(refusal(409, "AlreadyExists", message));
        }
        let mut object = object;
        object["apiVersion"] = key.kind.api_version().into();
        object["kind"] = facts.name.into();
        if facts.has_status {
            fields(&mut object).remove("status");
        }
        self.born += 1;
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.as_str().into();
        metadata["uid"] = format!("00000000-0000-4000-8000-{:012x}", self.born).into();
        metadata["creationTimestamp"] = written(now);
        if facts.namespaced {
            metadata["namespace"] = key.namespace.as_str().into();
        }
        if facts.counts {
            metadata["generation"] = 1.into();
        }
        if key.kind == Kind::Service {
            self.give_address(key, &mut object, now)?;
        }
        Ok(self.put(key, Some(object)))
    }

    /// A Service's cluster IP is an object of its own.
    fn give_address(&mut self, key: &Key, service: &mut Value, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.addresses += 1;
        let address = format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
        service["spec"]["clusterIP"] = address.as_str().into();
        service["spec"]["clusterIPs"] = json!([address]);
        let parent = json!({"group": "", "resource": "services", "namespace": key.namespace, "name": key.name});
        let object = json!({"metadata": {"name": address}, "spec": {"parentRef": parent}});
        self.create(&Key::new(Kind::IpAddress, "", &address), object, now)
            .map(drop)
    }

    /// Replaces all but the status.
    pub fn replace(&mut self, key: &Key, object: Value) -> Result<Object, Refusal> {
        let before = self.writable(key, &object)?;
        let mut after = object;
        after["apiVersion"] = before["apiVersion"].clone();
        after["kind"] = before["kind"].clone();
        for given in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
            "namespace",
        ] {
            keep(&mut after["metadata"], &before["metadata"], given);
        }
        if key.kind.facts().has_status {
            keep(&mut after, &before, "status");
        }
        if key.kind.facts().counts && unversioned(&before) != unversioned(&after) {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or_default();
            after["metadata"]["generation"] = (generation + 1).into();
        }
        Ok(self.change(key, &before, after))
    }

    /// The same for what a patch has led to, which may not lead to another uid.
    pub fn patch(&mut self, key: &Key, object: Value) -> Result<Object, Refusal> {
        let uid = self.find(key)?["metadata"]["uid"].clone();
        let is_another = object["metadata"]["uid"] != uid;
        let mut as_stored = object;
        as_stored["metadata"]["uid"] = uid;
        self.writable(key, &as_stored)?;
        if is_another {
            return Err(refusal(
                422,
                "Invalid",
                "metadata.uid: Invalid value: field is immutable",
            ));
        }
        self.replace(key, as_stored)
    }

    /// Replaces the status, and nothing else.
    pub fn replace_status(&mut self, key: &Key, object: &Value) -> Result<Object, Refusal> {
        let before = self.writable(key, object)?;
        let mut after = before.as_ref().clone();
        keep(&mut after, object, "status");
        Ok(self.change(key, &before, after))
    }

    /// What is to be replaced, if it is what the writer thinks.
    fn writable(&self, key: &Key, object: &Value) -> Result<Object, Refusal> {
        let before = self.find(key)?;
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        let only = Only {
            uid: text("uid"),
            version: text("resourceVersion"),
        };
        only.check(key, &before)?;
        Ok(before)
    }

    /// Stores what is another than before. Without a finalizer, what was only held by one is gone.
    fn change(&mut self, key: &Key, before: &Object, after: Value) -> Object {
        let mut after = after;
        keep(&mut after["metadata"], &before["metadata"], "resourceVersion");
        if **before == after {
            return Arc::clone(before);
        }
        if !after["metadata"]["deletionTimestamp"].is_null() && !is_held(&after) {
            return self.remove(key, after);
        }
        self.put(key, Some(after))
    }

    /// Changes an object by hand, whatever its version.
    pub fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) -> Result<Object, Refusal> {
        let before = self.find(key)?;
        let mut after = before.as_ref().clone();
        edit(&mut after);
        keep(&mut after["metadata"], &before["metadata"], "resourceVersion");
        self.replace(key, after)
    }

    /// Writes an object's status by hand.
    pub fn edit_status(&mut self, key: &Key, status: Value) -> Result<Object, Refusal> {
        let mut object = self.find(key)?.as_ref().clone();
        object["status"] = status;
        self.replace_status(key, &object)
    }

    pub fn delete(&mut self, key: &Key, only: &Only, now: DateTime<Utc>) -> Result<Deleted, Refusal> {
        let before = self.find(key)?;
        only.check(key, &before)?;
        let mut after = before.as_ref().clone();
        if key.kind == Kind::Namespace || is_held(&before) {
            if before["metadata"]["deletionTimestamp"].is_null() {
                after["metadata"]["deletionTimestamp"] = written(now);
                after["metadata"]["deletionGracePeriodSeconds"] = 0.into();
                return Ok(Deleted::Lingers(self.put(key, Some(after))));
            }
            return Ok(Deleted::Lingers(before));
        }
        Ok(Deleted::Gone(self.remove(key, after)))
    }

    /// What is held by nothing any more goes.
    pub fn finish(&mut self, key: &Key) {
        if let Some(object) = self.get(key) {
            self.remove(key, object.as_ref().clone());
        }
    }

    fn remove(&mut self, key: &Key, object: Value) -> Object {
        let address = object["spec"]["clusterIP"].as_str().map(str::to_owned);
        self.put(key, None);
        if let Some(address) = address.filter(|_| key.kind == Kind::Service) {
            self.finish(&Key::new(Kind::IpAddress, "", &address));
        }
        Arc::new(object)
    }

    fn put(&mut self, key: &Key, object: Option<Value>) -> Object {
        self.version += 1;
        let before = self.objects.get(key).cloned();
        let after = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            Arc::new(object)
        });
        match &after {
            Some(object) => self.objects.insert(key.clone(), Arc::clone(object)),
            None => self.objects.remove(key),
        };
        self.history.push(Change {
            version: self.version,
            key: key.clone(),
            before,
            after: after.clone(),
        });
        after.unwrap_or_default()
    }
}

impl Only {
    fn check(&self, key: &Key, found: &Value) -> Result<(), Refusal> {
        let Self { uid, version } = self;
        let differs = |wanted: &Option<String>, field: &str| {
            let wanted = wanted.as_deref().filter(|wanted| !wanted.is_empty());
            wanted.is_some_and(|wanted| found["metadata"][field].as_str() != Some(wanted))
        };
        let facts = key.kind.facts();
        let cannot = |why| {
            let message = format!(
                "Operation cannot be fulfilled on {}.{} {:?}: {why}",
                facts.plural, facts.group, key.name
            );
            Err(refusal(409, "Conflict", message))
        };
        if differs(uid, "uid") {
            cannot("the UID in the precondition does not match the UID in record")
        } else if differs(version, "resourceVersion") {
            cannot("the object has been modified; please apply your changes to the latest version and try again")
        } else {
            Ok(())
        }
    }
}

pub fn not_found(key: &Key) -> Refusal {
    let facts = key.kind.facts();
    let dot = if facts.group.is_empty() { "" } else { "." };
    refusal(
        404,
        "NotFound",
        format!("{}{dot}{} {:?} not found", facts.plural, facts.group, key.name),
    )
}

/// A moment as Kubernetes writes it.
pub fn written(moment: DateTime<Utc>) -> Value {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true).into()
}

/// What holds an object that is to be deleted.
fn is_held(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|held| !held.is_empty())
}

/// All that `generation` counts.
fn unversioned(object: &Value) -> Map<String, Value> {
    let mut rest = object.as_object().cloned().unwrap_or_default();
    rest.remove("metadata");
    rest.remove("status");
    rest
}

fn fields(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    object.as_object_mut().unwrap()
}

/// `field` is to be what it is in `from`.
fn keep(object: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => fields(object).insert(field.to_owned(), value.clone()),
        None => fields(object).remove(field),
    };
}
