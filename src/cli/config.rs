//! `skytls config`: the settings in force as a table for people or as one JSON document.
//!
//! It prints nothing itself, and it cannot show a secret: none gets as far as here.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::config::{Effective, Entry, Origin, Status, Unused, Warning};

/// The text to print, with its last line end: everything, or with `unused_only` just the keys of
/// the file that mean nothing here.
pub fn render(
    effective: &Effective,
    warnings: &[Warning],
    json: bool,
    unused_only: bool,
) -> String {
    if json {
        return format!("{:#}\n", document(effective, warnings, unused_only));
    }
    if unused_only {
        return unused_lines(&effective.unused);
    }
    table(effective, warnings)
}

fn document(effective: &Effective, warnings: &[Warning], unused_only: bool) -> Value {
    let unused: Vec<Value> = effective
        .unused
        .iter()
        .map(|unused| json!({ "key": unused.key, "file": effective.file, "line": unused.line }))
        .collect();
    if unused_only {
        return json!({ "unused": unused });
    }
    let settings: Vec<Value> = effective.entries.iter().map(setting).collect();
    let warnings: Vec<Value> = warnings.iter().map(warning).collect();
    json!({ "settings": settings, "warnings": warnings, "unused": unused })
}

fn setting(entry: &Entry) -> Value {
    let (file, line) = match &entry.origin {
        Origin::File { path, line, .. } => (Some(path.display().to_string()), Some(*line)),
        _ => (None, None),
    };
    json!({
        "key": entry.key.name(),
        "value": entry.value,
        "origin": entry.origin.word(),
        "file": file,
        "line": line,
        "environment": entry.origin.environment(),
        "status": entry.status.word(),
        "path": entry.resolved.as_ref().map(|path| path.display().to_string()),
    })
}

fn warning(warning: &Warning) -> Value {
    let place = warning.place.as_ref();
    json!({
        "id": warning.kind.word(),
        "key": warning.key,
        "text": warning.text,
        "file": place.map(|(path, _)| path.display().to_string()),
        "line": place.map(|(_, line)| line),
    })
}

fn table(effective: &Effective, warnings: &[Warning]) -> String {
    let rows: Vec<[String; 3]> = effective.entries.iter().map(row).collect();
    let width = |column: usize| {
        // One very long value must not push the origins of all others off the screen.
        rows.iter().map(|row| row[column].chars().count()).filter(|&width| width <= 48).max()
    };
    let (keys, values) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
    let mut out = match &effective.file {
        Some(path) => format!("# {}\n", printable(&path.display().to_string())),
        None => "# no configuration file\n".to_owned(),
    };
    for [key, value, origin] in &rows {
        out.push_str(&format!("{key:keys$}  {value:values$}  {origin}\n"));
    }
    for warning in warnings {
        out.push_str(&format!("warning: {}\n", printable(&warning.to_string())));
    }
    if !effective.unused.is_empty() {
        out.push_str(&format!(
            "# {} keys of the file mean nothing here: see --unused\n",
            effective.unused.len()
        ));
    }
    out
}

fn row(entry: &Entry) -> [String; 3] {
    let value = match entry.value.as_str() {
        "" => "-".to_owned(),
        value => printable(value).into_owned(),
    };
    let mut origin = printable(&entry.origin.to_string()).into_owned();
    if let Some(path) = &entry.resolved {
        origin.push_str(&format!(", {}", printable(&path.display().to_string())));
    }
    match entry.status {
        Status::NoEffect if entry.origin != Origin::BuiltIn => {
            origin.push_str(", no effect in this version");
        }
        Status::Later => origin.push_str(", not built yet"),
        _ => {}
    }
    [entry.key.name().to_owned(), value, origin]
}

fn unused_lines(unused: &[Unused]) -> String {
    let line = |unused: &Unused| format!("{}: {}\n", unused.line, printable(&unused.key));
    unused.iter().map(line).collect()
}

/// Keys and values come from files: control characters must not reach a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;

    use super::*;
    use crate::config::{Loaded, Loader};

    fn load() -> (tempfile::TempDir, Loaded) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.config");
        let text = "agent.service_name=${SW_AGENT_NAME:x}\nlog.max_message_size=40\n\
            plugin.mount=a\nev\\u001b[31mil=1\nrelay.lisen=1\n";
        fs::write(&file, text).unwrap();
        let variables = [("SW_AGENT_NAME", "shop"), ("SW_AGENT_AUTHENTICATION", "s3cret")];
        let loaded = Loader::new()
            .file(file)
            .environment(variables.map(|(n, v)| (OsString::from(n), OsString::from(v))))
            .set("agent.ssl_key_passphrase", "s3cret")
            .set("agent.force_tls", "TRUE")
            .load()
            .unwrap();
        (folder, loaded)
    }

    #[test]
    fn the_table_names_value_and_origin() {
        let (_folder, loaded) = load();
        let text = render(&loaded.effective, &loaded.warnings, false, false);
        let line = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{key} ")));
            line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(line("agent.service_name").ends_with("agent.config:1 with SW_AGENT_NAME"));
        assert_eq!(line("agent.force_tls"), "agent.force_tls true override");
        assert_eq!(line("agent.namespace"), "agent.namespace - built in");
        assert!(line("log.max_message_size").ends_with(":2, no effect in this version"));
        assert!(line("agent.authentication").ends_with("environment SW_AGENT_AUTHENTICATION"));
        assert!(text.contains(
            "warning: relay.lisen: there is no such setting; did you mean relay.listen?"
        ));
        assert!(text.contains("3 keys of the file mean nothing here"));
    }

    #[test]
    fn json_is_one_document() {
        let (_folder, loaded) = load();
        let text = render(&loaded.effective, &loaded.warnings, true, false);
        let document: Value = serde_json::from_str(&text).unwrap();
        let setting = |key: &str| {
            let settings = document["settings"].as_array().unwrap();
            settings.iter().find(|setting| setting["key"] == key).cloned().unwrap()
        };
        let name = setting("agent.service_name");
        assert_eq!((&name["value"], &name["origin"]), (&json!("shop"), &json!("file")));
        assert_eq!((&name["line"], &name["environment"]), (&json!(1), &json!(["SW_AGENT_NAME"])));
        assert_eq!(setting("agent.ssl_keylog_path")["status"], "later");
        assert_eq!(setting("agent.authentication")["value"], "********");
        assert_eq!(document["unused"][0]["key"], "plugin.mount");
        let ids: Vec<_> =
            document["warnings"].as_array().unwrap().iter().map(|w| w["id"].clone()).collect();
        assert!(ids.contains(&json!("unknown_key")) && ids.contains(&json!("passphrase_unused")));
    }

    #[test]
    fn secrets_never_show_and_control_characters_are_escaped() {
        let (_folder, loaded) = load();
        for (json, unused) in [(false, false), (false, true), (true, false), (true, true)] {
            let text = render(&loaded.effective, &loaded.warnings, json, unused);
            assert!(!text.contains("s3cret") && !text.contains('\u{1b}'), "{text}");
        }
        let text = render(&loaded.effective, &loaded.warnings, false, true);
        assert_eq!(text, "3: plugin.mount\n4: ev\\u{1b}[31mil\n5: relay.lisen\n");
        assert!(!format!("{loaded:?}").contains("s3cret"));
    }
}
