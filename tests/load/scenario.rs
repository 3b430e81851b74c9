//! The scenarios: each plays one class and prints one JSON line.

pub(crate) mod churn;
pub(crate) mod class;
pub(crate) mod late;
pub(crate) mod loss;
pub(crate) mod paging;

use serde::Serialize;
use serde_json::{Map, Value};

/// One line of results, from parts.
#[derive(Debug, Default)]
pub(crate) struct Line(Map<String, Value>);

impl Line {
    /// Adds the fields of a structure.
    ///
    /// # Errors
    /// When it has no fields.
    pub(crate) fn with(mut self, part: &impl Serialize) -> anyhow::Result<Self> {
        match serde_json::to_value(part)? {
            Value::Object(fields) => self.0.extend(fields),
            Value::Null => {}
            other => anyhow::bail!("no fields: {other}"),
        }
        Ok(self)
    }

    /// Prints the line.
    pub(crate) fn print(self) {
        println!("{}", Value::Object(self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_the_fields_of_all_its_parts() {
        let line = Line::default()
            .with(&serde_json::json!({ "a": 1 }))
            .and_then(|line| line.with(&None::<Value>))
            .and_then(|line| line.with(&serde_json::json!({ "b": 2 })))
            .expect("fields");
        assert_eq!(Value::Object(line.0).to_string(), r#"{"a":1,"b":2}"#);
        assert!(Line::default().with(&3).is_err());
    }
}
