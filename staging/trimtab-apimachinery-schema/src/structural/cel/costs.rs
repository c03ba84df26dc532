//! What the rules of a definition may cost: each by itself, and all together.

use trimtab_apimachinery_meta::field::{FieldError, FieldPath};

/// What one rule may cost, for all values that one object can have (`StaticEstimatedCostLimit`).
const MOST_OF_ONE: u64 = 10_000_000;
/// What all rules of a version may cost (`StaticEstimatedCRDCostLimit`).
const MOST_OF_ALL: u64 = 100_000_000;
/// So many of those that make it too much are named, if each is a hundredth of what all may cost.
const NAMED: usize = 4;

/// The costs of all rules so far.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    total: u64,
    /// The dearest first.
    dearest: Vec<(FieldPath, u64)>,
}

impl Costs {
    /// Counts what the expression at this place may cost; what it is called is told if that is too much.
    pub(super) fn add(&mut self, at: &FieldPath, name: &str, cost: u64, errors: &mut Vec<FieldError>) {
        if cost > MOST_OF_ONE {
            let name = format!("estimated {name} cost");
            errors.push(FieldError::forbidden(at, exceeds(&name, cost, MOST_OF_ONE)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= MOST_OF_ALL / 100 {
            let place = self.dearest.partition_point(|(_, known)| *known >= cost);
            self.dearest.insert(place, (at.clone(), cost));
            self.dearest.truncate(NAMED);
        }
    }

    /// What is to be said of all together; `schema` is where the schema is.
    pub(crate) fn finish(self, schema: &FieldPath) -> Vec<FieldError> {
        if self.total <= MOST_OF_ALL {
            return Vec::new();
        }
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let named = self.dearest.iter().map(|(at, _)| FieldError::forbidden(at, why));
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let all = FieldError::forbidden(schema, exceeds(name, self.total, MOST_OF_ALL));
        named.chain([all]).collect()
    }
}

fn exceeds(name: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is rounded when it is told")]
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        large if large > 100.0 => "more than 100x".to_owned(),
        small if small < 1.5 => format!("{small:.6}x"),
        other => format!("{other:.1}x"),
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
