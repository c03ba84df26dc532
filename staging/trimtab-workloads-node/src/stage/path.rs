//! Paths into objects: as much of jq as stages are written with: `.a.b`, `.a["b/c"]`, `.a[]`, `.a.[]`, and
//! `| select( .type == "Ready" ) |` between two of them.

use serde_json::Value;

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Field(String),
    Each,
    /// Only what has this text there.
    Where(Path, String),
}

impl Path {
    /// # Errors
    /// What of the text is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for piece in text.split('|').map(str::trim) {
            match piece
                .strip_prefix("select(")
                .or_else(|| piece.strip_prefix("select ("))
            {
                Some(rest) => {
                    let inner = rest.strip_suffix(')').ok_or_else(|| unknown(piece))?;
                    let (path, value) = inner.split_once("==").ok_or_else(|| unknown(piece))?;
                    let value = value
                        .trim()
                        .strip_prefix('"')
                        .and_then(|text| text.strip_suffix('"'));
                    let value = value.ok_or_else(|| unknown(piece))?.to_owned();
                    parts.push(Part::Where(Self::parse(path.trim())?, value));
                }
                None => steps(piece, &mut parts)?,
            }
        }
        Ok(Self(parts))
    }

    /// All that is there, without what is null.
    pub(crate) fn find<'v>(&self, object: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![object];
        for part in &self.0 {
            found = match part {
                Part::Field(name) => found.iter().filter_map(|value| value.get(name)).collect(),
                Part::Each => found
                    .iter()
                    .flat_map(|value| value.as_array().into_iter().flatten())
                    .collect(),
                Part::Where(path, text) => {
                    let has = |value: &&Value| path.texts(value).iter().any(|found| found == text);
                    found.into_iter().filter(has).collect()
                }
            };
        }
        found.retain(|value| !value.is_null());
        found
    }

    /// What is there, as text.
    pub(crate) fn texts(&self, object: &Value) -> Vec<String> {
        let found = self.find(object).into_iter();
        found
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect()
    }
}

fn unknown(piece: &str) -> String {
    format!("{piece:?} is more of jq than is supported: paths, [] and select(PATH == \"TEXT\")")
}

/// `.a.b["c"].[]`
fn steps(piece: &str, parts: &mut Vec<Part>) -> Result<(), String> {
    let mut rest = piece;
    if !rest.starts_with('.') {
        return Err(unknown(piece));
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[]") {
            parts.push(Part::Each);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("[\"") {
            let (name, after) = after.split_once("\"]").ok_or_else(|| unknown(piece))?;
            parts.push(Part::Field(name.to_owned()));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(after.len());
            if end > 0 {
                parts.push(Part::Field(after[..end].to_owned()));
            } else if !(after.is_empty() || after.starts_with('[')) {
                return Err(unknown(piece));
            }
            rest = &after[end..];
        } else {
            return Err(unknown(piece));
        }
    }
    Ok(())
}
