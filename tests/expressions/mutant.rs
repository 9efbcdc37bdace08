//! Mutants: an admission policy or a definition with one of its expressions gone, turned around or altered.
//!
//! Works on the objects as the API server has them. Must not talk to it.

use serde_json::{Value, json};

use crate::cel::{alterations, negated};

/// A guard that is another in one place.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Where and how, in words that stay the same while the expression does.
    pub id: String,
    /// The guard, as it is now.
    pub guard: Value,
}

/// What a variable can be replaced by; what isn't of its type, the API server doesn't store.
const CONSTANTS: [&str; 5] = ["true", "false", "''", "[]", "{}"];
/// So much of a message tells one validation from another.
const TOLD: usize = 64;

/// Every mutant of a guard.
pub fn mutants(guard: &Value) -> Vec<Mutant> {
    let mut all = Mutants { guard, made: vec![] };
    match guard["kind"].as_str().unwrap() {
        "ValidatingAdmissionPolicy" => all.of_a_policy("validations"),
        "MutatingAdmissionPolicy" => all.of_a_policy("mutations"),
        _ => all.of_a_definition(),
    }
    all.made
}

struct Mutants<'a> {
    guard: &'a Value,
    made: Vec<Mutant>,
}

impl Mutants<'_> {
    fn of_a_policy(&mut self, outcomes: &str) {
        for (index, condition) in self.list("/spec/matchConditions") {
            let place = format!("condition {}", text(&condition, "name"));
            self.gone(&place, &format!("/spec/matchConditions/{index}"));
            self.altered(&place, &format!("/spec/matchConditions/{index}/expression"), true);
        }
        for (index, variable) in self.list("/spec/variables") {
            let (place, pointer) = (
                format!("variable {}", text(&variable, "name")),
                format!("/spec/variables/{index}/expression"),
            );
            for constant in CONSTANTS {
                self.replaced(
                    &place,
                    &pointer,
                    &format!("replaced by {constant}"),
                    constant.to_owned(),
                );
            }
            self.altered(&place, &pointer, true);
        }
        for (index, outcome) in self.list(&format!("/spec/{outcomes}")) {
            let pointer = format!("/spec/{outcomes}/{index}");
            if outcomes == "mutations" {
                let (place, pointer) = (
                    format!("mutation {}", index + 1),
                    format!("{pointer}/jsonPatch/expression"),
                );
                self.replaced(&place, &pointer, "gone", "[]".to_owned());
                self.altered(&place, &pointer, false);
                continue;
            }
            let place = format!("validation {:?}", cut(text(&outcome, "message")));
            self.gone(&place, &pointer);
            self.altered(&place, &format!("{pointer}/expression"), true);
            if outcome.get("messageExpression").is_some() {
                let place = format!("message of {place}");
                self.gone(&place, &format!("{pointer}/messageExpression"));
                self.altered(&place, &format!("{pointer}/messageExpression"), false);
            }
        }
    }

    fn of_a_definition(&mut self) {
        let schema = "/spec/versions/0/schema/openAPIV3Schema";
        let mut rules = vec![];
        find_rules(self.guard.pointer(schema).unwrap(), schema, "", &mut rules);
        for (pointer, place) in rules {
            let message = text(self.guard.pointer(&pointer).unwrap(), "message");
            let place = format!("rule of {place} {:?}", cut(message));
            self.gone(&place, &pointer);
            self.altered(&place, &format!("{pointer}/rule"), true);
        }
    }

    fn list(&self, pointer: &str) -> Vec<(usize, Value)> {
        let list = self.guard.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().cloned().enumerate().collect()
    }

    /// Without what stands there.
    fn gone(&mut self, place: &str, pointer: &str) {
        let mut guard = self.guard.clone();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        match guard.pointer_mut(parent).unwrap() {
            Value::Array(list) => drop(list.remove(last.parse().unwrap())),
            object => drop(object.as_object_mut().unwrap().remove(last)),
        }
        self.push(place, "gone", guard);
    }

    fn altered(&mut self, place: &str, pointer: &str, is_bool: bool) {
        let expression = self.guard.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        if is_bool {
            self.replaced(place, pointer, "negated", negated(&expression));
        }
        for altered in alterations(&expression) {
            self.replaced(place, pointer, &altered.how, altered.text);
        }
    }

    fn replaced(&mut self, place: &str, pointer: &str, how: &str, expression: String) {
        let mut guard = self.guard.clone();
        *guard.pointer_mut(pointer).unwrap() = Value::String(expression);
        self.push(place, how, guard);
    }

    fn push(&mut self, place: &str, how: &str, guard: Value) {
        let id = format!("{}, {place}: {how}", name(&guard));
        let again = self
            .made
            .iter()
            .filter(|made| made.id == id || made.id.starts_with(&format!("{id} (")))
            .count();
        let id = if again == 0 {
            id
        } else {
            format!("{id} ({})", again + 1)
        };
        self.made.push(Mutant { id, guard });
    }
}

/// The rules of a schema, by pointer and by field.
fn find_rules(schema: &Value, pointer: &str, field: &str, found: &mut Vec<(String, String)>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    for index in 0..rules.map_or(0, Vec::len) {
        found.push((format!("{pointer}/x-kubernetes-validations/{index}"), field.to_owned()));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        find_rules(
            schema,
            &format!("{pointer}/properties/{name}"),
            &format!("{field}.{name}"),
            found,
        );
    }
    if schema["items"].is_object() {
        find_rules(
            &schema["items"],
            &format!("{pointer}/items"),
            &format!("{field}[]"),
            found,
        );
    }
}

pub fn name(guard: &Value) -> &str {
    guard["metadata"]["name"].as_str().unwrap()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

fn cut(message: &str) -> String {
    message.chars().take(TOLD).collect()
}

/// The guard marked: an object that bears this mark is answered so, whatever else the guard says. So it shows when the guard is in force.
pub fn marked(guard: &Value, mark: &str, answer: &str) -> Value {
    let bears = format!("(object != null && object.metadata.?annotations[?'mark'].orValue('') == '{mark}')");
    let mut guard = guard.clone();
    let spec = &mut guard["spec"];
    // One that only sees what is deleted is shown the mark on what is made, and judges nothing else of that.
    let operations = spec.pointer_mut("/matchConstraints/resourceRules/0/operations");
    let sees_no_creation = operations.is_some_and(|operations| {
        let only_deletions = *operations == json!(["DELETE"]);
        if only_deletions {
            *operations = json!(["CREATE", "DELETE"]);
        }
        only_deletions
    });
    for condition in spec["matchConditions"].as_array_mut().into_iter().flatten() {
        let expression = text(condition, "expression");
        condition["expression"] = json!(match sees_no_creation {
            true => format!("{bears} || (object == null && ({expression}))"),
            false => format!("{bears} || ({expression})"),
        });
    }
    if let Some(validations) = spec["validations"].as_array_mut() {
        validations.insert(0, json!({"expression": format!("!{bears}"), "message": answer}));
    }
    for mutation in spec["mutations"].as_array_mut().into_iter().flatten() {
        let expression = &mut mutation["jsonPatch"]["expression"];
        let seen = format!("[JSONPatch{{op: 'add', path: '/metadata/annotations/seen', value: '{answer}'}}]");
        *expression = json!(format!("{bears} ? {seen} : ({})", expression.as_str().unwrap()));
    }
    if let Some(schema) = spec.pointer_mut("/versions/0/schema/openAPIV3Schema") {
        schema["x-kubernetes-validations"] =
            json!([{"rule": format!("self.metadata.name != '{mark}'"), "message": answer}]);
    }
    guard
}
