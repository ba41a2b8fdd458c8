//! `man/skytls.conf.5`, made from the table of keys.
//!
//! Only what a terminal needs: the rules of the file in brief, then every key. `docs/configuration.md` has the
//! reasons.

use super::keys::{Family, Key, Status};
use super::reference::kind;

const HEAD: &str = r#".\" SPDX-License-Identifier: Apache-2.0
.\" Made from the table in src/config/keys.rs; `UPDATE_DOCS=1 cargo test --test config_reference` writes it anew.
.TH SKYTLS.CONF 5 "" "skytls" "File formats"
.SH NAME
skytls.conf \- settings of skytls: agent.config, the environment, and calls
.SH DESCRIPTION
.B skytls
and
.B libskytls
read the
.I agent.config
of the SkyWalking Java agent as it is. Every setting has a built-in value of the form
.BR ${ENVIRONMENT_NAME:default} .
.IP 1. 4
.B \-\-set
.IR key = value ,
or
.BR skytls_config_set (),
wins. The value is taken as it is.
.IP 2. 4
Else a line in
.IR agent.config .
A literal there wins over the environment.
.IP 3. 4
Else the environment variable of the setting.
.IP 4. 4
Else the default.
.PP
Values are trimmed, and a blank one means the default. The grammar of the file is that of java.util.Properties, in
UTF-8.
.B ${NAME:default}
is replaced by the environment variable
.IR NAME ,
else by the value of that key in the same file, else by the default.
.PP
Relative paths, and those of the form
.IR /ca/ca.crt ,
are looked up in the agent folder: the parent of the folder of
.I agent.config
if that folder is called
.IR config ,
else the folder of
.IR agent.config ,
else the working directory;
.B SW_AGENT_HOME
overrides.
"#;

const TAIL: &str = r#".SH FILES
.IR ./config/agent.config ,
.IR ./agent.config ;
the first that is there, unless
.B SW_AGENT_CONFIG
or the command line names another.
.SH SEE ALSO
.BR skytls (1),
.BR libskytls (3)
"#;

/// The text of `man/skytls.conf.5`.
pub fn manual() -> String {
    let mut out = String::from(HEAD);
    for (family, heading) in
        [(Family::Java, "SETTINGS OF THE JAVA AGENT"), (Family::Ours, "SETTINGS OF SKYTLS")]
    {
        out.push_str(&format!(".SH \"{heading}\"\n"));
        for &key in Key::ALL.iter().filter(|key| key.family() == family) {
            out.push_str(&entry(key));
        }
    }
    out.push_str(TAIL);
    out
}

fn entry(key: Key) -> String {
    let default = match key.default_text() {
        "" => "empty".to_owned(),
        text => text.to_owned(),
    };
    let status = match key.status() {
        Status::Built => "",
        Status::Later => " Not built yet: anything but the default is an error.",
        Status::NoEffect => " No effect in this version.",
    };
    let [kind, default, help] =
        [&kind(key.kind()), &default, key.help()].map(|text| roff(&text.replace('`', "")));
    format!(
        ".TP\n.BR {} \" (\" {} )\n{kind}; default: {default}.\n.br\n{}.{status}\n",
        roff(key.name()),
        roff(key.environment()),
        capitalised(&help)
    )
}

/// Text as roff has it: a backslash begins an escape, a hyphen alone is typographic, and a dot or quote at the
/// beginning of a line a request.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
