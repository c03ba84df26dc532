//! `fieldPath` of a rule: which field to blame.

use std::sync::Arc;

use trimtab_apimachinery_meta::field::FieldPath;

use crate::Schema;
use crate::schema::Additional;

/// The path of a JSON path like `.a['b.c']`, below values of a schema; `None` when the schema has no such field.
pub(super) fn resolve(text: &str, schema: &Arc<Schema>) -> Option<FieldPath> {
    let mut path = FieldPath::root();
    let mut schema = Arc::clone(schema);
    let mut rest = text;
    while !rest.is_empty() {
        let name: String;
        if let Some(after) = rest.strip_prefix("['") {
            let (literal, after) = literal(after)?;
            name = literal;
            rest = after.strip_prefix(']')?;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            let (plain, after) = after.split_at(end);
            name = Some(plain).filter(|name| !name.is_empty())?.to_owned();
            rest = after;
        }
        if !schema.properties.is_empty() {
            let property = schema.properties.get(&name)?;
            path = path.child(&name);
            schema = Arc::clone(property);
        } else if let Additional::Schema(values) = &schema.additional {
            path = path.key(&name);
            schema = Arc::clone(values);
        } else {
            return None;
        }
    }
    Some(path)
}

/// The text up to the closing quote, with escapes resolved, and what comes after.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '\'' => return Some((out, chars.as_str())),
            '\\' => out.push(match chars.next()? {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                '\'' => '\'',
                '\\' => '\\',
                _ => return None,
            }),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields() {
        let schema = Arc::new(Schema::from_openapi(&json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b.c": {"type": "string"}, "it's": {"type": "string"}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {}}}},
        }})));
        let cases = [
            (".a", Some("a")),
            (".a['b.c']", Some("a.b.c")),
            (r".a['it\'s']", Some("a.it's")),
            (".m.k.x", Some("m[k].x")),
            (".m['k']", Some("m[k]")),
            (".b", None),
            ("a", None),
            (".a.b.c", None),
            (".a['b.c'", None),
            (".a[0]", None),
        ];
        for (text, expected) in cases {
            let found = resolve(text, &schema);
            assert_eq!(found.as_ref().map(FieldPath::as_str), expected, "{text}");
        }
    }
}
