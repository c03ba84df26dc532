//! Static bearer tokens from a file, as kube-apiserver's `--token-auth-file` has them.

use std::collections::HashMap;
use std::path::Path;

use crate::UserInfo;

/// Tokens and whom they stand for. Its debug form does not show them.
#[derive(Clone, Default)]
pub struct StaticTokens {
    users: HashMap<String, UserInfo>,
}

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("token file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not `token,user,uid[,"group1,group2"]`.
    #[error("token file {path}, line {line}: {why}; want token,user,uid[,\"group1,group2\"]")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong; never the token.
        why: &'static str,
    },
}

impl StaticTokens {
    /// Reads a file of lines `token,user,uid,"group1,group2"`; empty lines and `#` comments are skipped.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a line lacks a field. Neither error holds a token.
    pub fn from_file(path: &Path) -> Result<Self, TokenFileError> {
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| TokenFileError::Read {
            path: shown(),
            source,
        })?;
        Self::parse(&text).map_err(|(line, why)| TokenFileError::Line {
            path: shown(),
            line,
            why,
        })
    }

    /// Reads the same from text; an error is the line, counted from 1, and what is wrong with it.
    ///
    /// # Errors
    ///
    /// When a line lacks a field.
    pub fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields = split_csv(line).ok_or((number + 1, "a quote is not closed"))?;
            let [token, name, uid, groups @ ..] = fields.as_slice() else {
                return Err((number + 1, "too few fields"));
            };
            if token.is_empty() || name.is_empty() {
                return Err((number + 1, "the token or the user is empty"));
            }
            let groups = groups.first().map(String::as_str).unwrap_or_default();
            let groups = groups
                .split(',')
                .map(str::trim)
                .filter(|g| !g.is_empty())
                .map(str::to_owned);
            let user = UserInfo {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.collect(),
                ..UserInfo::default()
            };
            users.insert(token.clone(), user);
        }
        Ok(Self { users })
    }

    /// Adds a token.
    pub fn insert(&mut self, token: impl Into<String>, user: UserInfo) {
        self.users.insert(token.into(), user);
    }

    /// Whom a token stands for.
    pub fn user(&self, token: &str) -> Option<&UserInfo> {
        self.users.get(token)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl std::fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticTokens")
            .field("tokens", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Splits one line of CSV; `None` when a quote is not closed.
fn split_csv(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                last.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => last.push(c),
        }
    }
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_token_a_user_a_uid_and_groups() {
        let tokens =
            StaticTokens::parse("# ours\n\nt1,admin,u1,\"system:masters,ops\"\nt2,alice,u2\n").unwrap();
        let admin = tokens.user("t1").unwrap();
        assert_eq!((admin.name.as_str(), admin.uid.as_str()), ("admin", "u1"));
        assert_eq!(admin.groups, ["system:masters", "ops"]);
        assert!(tokens.user("t2").unwrap().groups.is_empty());
        assert!(tokens.user("t3").is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, line) in [("t1,admin\n", 1), ("t,a,u\nt2,b,\"open\n", 2), (",a,u\n", 1)] {
            let (found, _) = StaticTokens::parse(text).map(|_| ()).unwrap_err();
            assert_eq!(found, line, "{text:?}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let tokens = StaticTokens::parse("hush,admin,u1\n").unwrap();
        assert!(!format!("{tokens:?}").contains("hush"));
    }
}
