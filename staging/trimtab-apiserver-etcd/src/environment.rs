//! The file of `ETCD_*` settings that a member is started with: `NAME=VALUE` lines, as systemd's `EnvironmentFile=` and
//! Debian's `/etc/default/etcd` have them. Lines that are not to change stay as they are.

use std::collections::BTreeMap;
use std::path::Path;

use crate::durable;
use crate::error::{Error, Result};

/// The text of such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    text: String,
}

/// What settings are to be; `None` for not at all.
pub(crate) type Settings = BTreeMap<&'static str, Option<String>>;

impl Environment {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        Ok(Self::new(text))
    }

    pub(crate) fn new(text: String) -> Self {
        Self { text }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// All settings in their order; the last of a name counts.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(assignment)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self
            .variables()
            .filter(|(n, value)| *n == name && !value.is_empty());
        all.last().map(|(_, value)| value)
    }

    /// The same with other settings: each where it was, or at the end.
    pub(crate) fn with(&self, settings: &Settings) -> Self {
        let mut left = settings.clone();
        let mut text = String::new();
        for line in self.text.lines() {
            let name = assignment(line).map(|(name, _)| name);
            let Some((name, _)) = name.and_then(|name| settings.get_key_value(name)) else {
                text.push_str(line);
                text.push('\n');
                continue;
            };
            // A second line of the same name goes.
            if let Some(Some(value)) = left.remove(name) {
                push(&mut text, name, &value);
            }
        }
        for (name, value) in left {
            if let Some(value) = value {
                push(&mut text, name, &value);
            }
        }
        Self { text }
    }

    /// Writes it in one step, synced; it stays readable to whom it was.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        durable::write(path, self.text.as_bytes(), None)
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push('=');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/,=@%+[]".contains(c);
    if value.chars().all(plain) {
        text.push_str(value);
    } else {
        text.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push('\n');
}

/// The name and the value of a line, unless it is a comment.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim();
    let quoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((name.trim(), quoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_change_stays() {
        let before = Environment::new(
            "# members\nETCD_NAME=\"m0\"\n\nexport ETCD_LISTEN_PEER_URLS='http://a:1'\nOTHER=x y\nETCD_CERT_FILE=/a\n"
                .to_owned(),
        );
        assert_eq!(before.get("ETCD_NAME"), Some("m0"));
        assert_eq!(before.get("ETCD_LISTEN_PEER_URLS"), Some("http://a:1"));
        assert_eq!(before.get("OTHER"), Some("x y"));
        let settings = Settings::from([
            ("ETCD_LISTEN_PEER_URLS", Some("https://a:1".to_owned())),
            ("ETCD_CERT_FILE", None),
            ("ETCD_KEY_FILE", Some("/with space".to_owned())),
        ]);
        let after = before.with(&settings);
        assert_eq!(
            after.text(),
            "# members\nETCD_NAME=\"m0\"\n\nETCD_LISTEN_PEER_URLS=https://a:1\nOTHER=x y\nETCD_KEY_FILE=\"/with space\"\n"
        );
        assert_eq!(after.with(&settings), after);
        assert_eq!(after.get("ETCD_CERT_FILE"), None);
    }
}
