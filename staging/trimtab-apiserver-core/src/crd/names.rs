//! Which of the names that a definition asks for it gets: those that nothing else in its group goes by.

use std::collections::HashSet;

use serde_json::{Value, json};
use trimtab_apiserver_kinds::resource::Resource;

use super::view::{self, text, texts};

/// The names in use in a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

impl Taken {
    /// Adds the names that a definition has been given.
    pub(super) fn add(&mut self, definition: &Value) {
        let names = &definition["status"]["acceptedNames"];
        let resources = ["plural", "singular"].map(|f| text(names, f).to_owned());
        let kinds = ["kind", "listKind"].map(|f| text(names, f).to_owned());
        self.resources
            .extend(resources.into_iter().chain(texts(names, "shortNames")));
        self.kinds.extend(kinds);
        // A name that is not given yet is nobody's.
        self.resources.remove("");
        self.kinds.remove("");
    }

    /// Adds the names of a built-in resource.
    pub(super) fn add_builtin(&mut self, resource: &Resource) {
        self.resources.insert(resource.plural.clone());
        self.resources.insert(resource.singular.clone());
        self.resources.extend(resource.short_names.iter().cloned());
        self.kinds.insert(resource.kind.clone());
        self.kinds.insert(resource.list_kind.clone());
    }
}

/// Decides on the names of a definition, given those of all others in its group. Answers whether its status has
/// changed by that.
pub(super) fn decide(definition: &mut Value, taken: &Taken, now: &str) -> bool {
    let asked = definition["spec"]["names"].clone();
    let has = definition["status"]["acceptedNames"].clone();
    let mut given = has.clone();
    let mut refused: Option<(&str, String)> = None;
    for (field, reason, used) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let wanted = if field == "shortNames" {
            texts(&asked, field)
        } else {
            vec![text(&asked, field).to_owned()]
        };
        let own = |name: &String| text(&has, field) == name || texts(&has, field).contains(name);
        let conflicts: Vec<String> = wanted
            .iter()
            .filter(|name| !own(name) && used.contains(*name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match conflicts.as_slice() {
            [] => set(&mut given, field, &asked[field]),
            [one] => refused = Some((reason, one.clone())),
            many => refused = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    set(&mut given, "categories", &asked["categories"]);
    let (status, reason, message) = match &refused {
        None => ("True", "NoConflicts", "no conflicts found"),
        Some((reason, message)) => ("False", *reason, message.as_str()),
    };
    let same = view::condition(definition, "NamesAccepted")
        .is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message);
    if same && given == has {
        return false;
    }
    definition["status"]["acceptedNames"] = given;
    view::set_condition(definition, "NamesAccepted", status, reason, message, now);
    if view::condition(definition, "Established").is_none() {
        let message = "not all names are accepted";
        view::set_condition(definition, "Established", "False", "NotAccepted", message, now);
    }
    true
}

fn set(names: &mut Value, field: &str, value: &Value) {
    if !names.is_object() {
        *names = json!({});
    }
    if let Some(names) = names.as_object_mut() {
        if value.is_null() {
            names.remove(field);
        } else {
            names.insert(field.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "spec": {"names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": short}},
            "status": {"acceptedNames": {"plural": "", "kind": ""}, "conditions": null},
        })
    }

    #[test]
    fn names_in_use_are_refused_and_the_last_conflict_is_told() {
        let mut first = definition("widgets", "Widget", &["w", "wd"]);
        let cases: [(&str, &str, &[&str], &str, &str); 5] = [
            ("gadgets", "Gadget", &["g"], "NoConflicts", "no conflicts found"),
            (
                "gadgets",
                "Widget",
                &[],
                "ListKindConflict",
                "\"WidgetList\" is already in use",
            ),
            (
                "gadgets",
                "WidgetList",
                &[],
                "KindConflict",
                "\"WidgetList\" is already in use",
            ),
            (
                "gadgets",
                "Gadget",
                &["w"],
                "ShortNamesConflict",
                "\"w\" is already in use",
            ),
            (
                "gadgets",
                "Gadget",
                &["wd", "w"],
                "ShortNamesConflict",
                "[\"wd\" is already in use, \"w\" is already in use]",
            ),
        ];
        assert!(decide(&mut first, &Taken::default(), "t"));
        let again = first.clone();
        assert!(
            !decide(&mut first, &Taken::default(), "u"),
            "nothing is left to decide"
        );
        assert_eq!(first, again);
        let mut taken = Taken::default();
        taken.add(&first);
        for (plural, kind, short, reason, message) in cases {
            let mut second = definition(plural, kind, short);
            assert!(decide(&mut second, &taken, "t"));
            let condition = view::condition(&second, "NamesAccepted")
                .cloned()
                .unwrap_or_default();
            assert_eq!(
                (&condition["reason"], &condition["message"]),
                (&json!(reason), &json!(message))
            );
            assert_eq!(
                second["status"]["acceptedNames"]["plural"], plural,
                "what is free is given"
            );
            let established = view::condition(&second, "Established")
                .cloned()
                .unwrap_or_default();
            assert_eq!(established["reason"], "NotAccepted");
        }
    }
}
