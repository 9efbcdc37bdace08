//! A length of time as people write it, kept to the letter.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The longest duration that any field takes: 8760 hours, a year.
pub const LONGEST: Duration = Duration::from_secs(8760 * 3600);

/// What a duration looks like; the CRD's rule and [`GoDuration::parse`] say the same.
const FORM: &str = "^([0-9]{1,5}(h|m|s)){1,3}$";
const ALLOWED: &str = "must be a duration such as 90s, 30m or 1h30m: whole numbers of h, m and s, from 1s to 8760h";

/// A duration in Go's notation, as the Gateway API has it: `30m`, `1h30m`. From one second to a year, in whole seconds.
///
/// The user's own words are kept: `1h30m` stays `1h30m`. What is stored was checked by the API server, but the operator
/// reads it again through [`GoDuration::parse`] and takes nothing for granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GoDuration(String);

/// A text that is no duration, or one out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} {ALLOWED}")]
pub struct InvalidDuration {
    /// What was written.
    pub given: String,
}

impl GoDuration {
    /// Keeps `text` as it is; whether it means something is what [`GoDuration::parse`] tells.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of time that the text means.
    ///
    /// # Errors
    /// When it isn't of the form `1h30m`, is zero, or is longer than [`LONGEST`].
    pub fn parse(&self) -> Result<Duration, InvalidDuration> {
        let invalid = || InvalidDuration { given: self.0.clone() };
        let seconds = self.seconds().ok_or_else(invalid)?;
        let length = Duration::from_secs(seconds);
        if length.is_zero() || length > LONGEST {
            Err(invalid())
        } else {
            Ok(length)
        }
    }

    fn seconds(&self) -> Option<u64> {
        let (mut total, mut parts, mut digits) = (0u64, 0, String::new());
        for character in self.0.chars() {
            let unit = match character {
                '0'..='9' if digits.len() < 5 => {
                    digits.push(character);
                    continue;
                }
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return None,
            };
            total += digits.parse::<u64>().ok()? * unit;
            parts += 1;
            digits.clear();
        }
        (digits.is_empty() && (1..=3).contains(&parts)).then_some(total)
    }
}

impl std::fmt::Display for GoDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{FORM}') && duration(self) >= duration('1s') && duration(self) <= duration('8760h')"),
                "message": ALLOWED,
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_mean_what_go_says_they_mean() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("30m", 1800),
            ("1h30m", 5400),
            ("1h0m1s", 3601),
            ("8760h", 31_536_000),
        ] {
            assert_eq!(
                GoDuration::new(text).parse(),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_is_allowed() {
        for text in [
            "", "0s", "0h0m", "-1h", "9999999h", "8761h", "1h1", "1d", "1.5h", "h", " 1h", "1h ", "1H", "100ms",
            "1h1m1s1s",
        ] {
            let refused = GoDuration::new(text).parse().expect_err(text).to_string();
            assert!(refused.contains("such as 90s, 30m or 1h30m"), "{refused}");
        }
    }
}
