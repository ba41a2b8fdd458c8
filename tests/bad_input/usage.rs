//! The command line.

use super::row::Row;

pub(crate) fn rows() -> Vec<Row> {
    let row = |arguments: &[&str]| {
        let row = Row::new(format!("{arguments:?}"), "").command(arguments.iter().copied());
        row.misused("SKT-901")
    };
    vec![
        row(&["frobnicate"]).says("frobnicate"),
        row(&["run", "--frobnicate"]).says("--frobnicate").says("Usage: skytls run"),
        row(&["run", "more"]).says("more"),
        row(&["run", "--config"]).says("--config"),
        row(&["run", "--set"]).says("--set"),
        row(&["run", "--set", "agent.force_tls"]).says("--set KEY=VALUE"),
        row(&["run", "--set", "agent.authentication:s3cret"]).secret("s3cret"),
        row(&["config", "--jsn"]).says("--json"),
        row(&["certs"]).says("--out"),
        row(&["collector", "--cert", "server.crt"]).says("--key"),
        row(&["collector", "--fault", "explode"]).says("--fault"),
        Row::new("nothing at all", "").command::<&str>([]).helped(),
    ]
}
