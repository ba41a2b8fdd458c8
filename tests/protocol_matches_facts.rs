//! The compiled protocol is the protocol of SkyWalking: nothing missing, nothing extra, nothing
//! renumbered, and the method table agrees with it.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use skytls::protocol::{FILE_DESCRIPTOR_SET, METHODS, Shape, Sticky};

/// Made from the published protocol, not from `proto/`.
const FACTS: &str = include_str!("data/protocol-facts.txt");

#[test]
fn descriptors_and_facts_are_the_same() {
    let facts: BTreeSet<String> = FACTS.lines().map(str::to_owned).collect();
    let compiled: BTreeSet<String> = files().iter().flat_map(render_file).collect();

    assert_same(&facts, &compiled);
}

#[test]
fn facts_are_sorted_and_unique() {
    let lines: Vec<_> = FACTS.lines().collect();
    assert!(lines.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn counts_are_those_of_the_protocol() {
    let files = files();
    let services: Vec<_> = files.iter().flat_map(|f| &f.service).collect();
    let methods = services.iter().flat_map(|s| &s.method).count();
    assert_eq!((files.len(), services.len(), methods), (26, 25, 45));
}

#[test]
fn method_table_and_descriptors_are_the_same() {
    let table = METHODS.iter().map(|m| format!("{} {:?}", m.path, m.shape)).collect();
    let compiled = methods()
        .into_iter()
        .map(|m| {
            let shape = match (m.client, m.server) {
                (false, false) => Shape::Unary,
                (true, false) => Shape::ClientStream,
                (true, true) => Shape::Bidi,
                (false, true) => panic!("{} has a shape that no other method has", m.path),
            };
            format!("{} {shape:?}", m.path)
        })
        .collect();
    assert_same(&table, &compiled);
}

#[test]
fn sticky_fields_are_the_ones_that_bind_a_stream() {
    let files = files();
    for method in METHODS {
        let (Sticky::Head(numbers) | Sticky::Unit(numbers) | Sticky::Latest(numbers)) =
            method.sticky
        else {
            continue;
        };
        let input = methods().into_iter().find(|m| m.path == method.path).unwrap().input;
        let message = files
            .iter()
            .flat_map(|f| f.message_type.iter().map(move |m| (full_name(f.package(), m.name()), m)))
            .find_map(|(name, m)| (name == input).then_some(m))
            .unwrap();
        let names: Vec<_> = numbers
            .iter()
            .map(|n| message.field.iter().find(|f| f.number() == *n as i32).unwrap().name())
            .collect();
        let expected: &[&str] = match input.as_str() {
            "skywalking.v3.LogData" => &["service", "serviceInstance"],
            "skywalking.v3.MeterData" => &["service", "serviceInstance", "timestamp"],
            "skywalking.v3.EBPFAccessLogMessage" => &["node", "connection"],
            "skywalking.v3.EBPFProfilingData" => &["task"],
            other => panic!("no rule is known for {other}"),
        };
        assert_eq!(names, expected, "{}", method.path);
    }
}

fn assert_same(expected: &BTreeSet<String>, compiled: &BTreeSet<String>) {
    let missing = expected.difference(compiled).map(|line| format!("- {line}"));
    let extra = compiled.difference(expected).map(|line| format!("+ {line}"));
    let lines: Vec<_> = missing.chain(extra).collect();
    assert!(lines.is_empty(), "missing (-) and extra (+) in proto/:\n{}", lines.join("\n"));
}

// === descriptors as lines ===

/// The protocol's own files, without what they might import from Google.
fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors decode");
    set.file.into_iter().filter(|f| !f.name().starts_with("google/")).collect()
}

struct Rpc {
    path: String,
    input: String,
    output: String,
    client: bool,
    server: bool,
}

fn methods() -> Vec<Rpc> {
    files().iter().flat_map(methods_of).collect()
}

fn methods_of(file: &FileDescriptorProto) -> Vec<Rpc> {
    let mut out = Vec::new();
    for service in &file.service {
        for method in &service.method {
            out.push(Rpc {
                path: format!("/{}/{}", full_name(file.package(), service.name()), method.name()),
                input: plain(method.input_type()),
                output: plain(method.output_type()),
                client: method.client_streaming(),
                server: method.server_streaming(),
            });
        }
    }
    out
}

fn render_file(file: &FileDescriptorProto) -> Vec<String> {
    let deprecated = file.options.as_ref().is_some_and(|o| o.deprecated());
    let package = if file.package().is_empty() { "-" } else { file.package() };
    let mut out = vec![format!("file {} package {package} deprecated {deprecated}", file.name())];
    for service in &file.service {
        let name = full_name(file.package(), service.name());
        out.push(format!("service {name} in {}", file.name()));
    }
    for m in methods_of(file) {
        let Rpc { path, input, output, client, server } = m;
        out.push(format!("method {path} {input} {output} client={client} server={server}"));
    }
    for message in &file.message_type {
        render_message(file, file.package(), message, &mut out);
    }
    for item in &file.enum_type {
        render_enum(file.package(), item, &mut out);
    }
    out
}

fn render_message(
    file: &FileDescriptorProto,
    scope: &str,
    message: &DescriptorProto,
    out: &mut Vec<String>,
) {
    let name = full_name(scope, message.name());
    out.push(format!("message {name} in {}", file.name()));
    for field in &message.field {
        let (kind, label) = match map_entry(message, field) {
            Some(entry) => {
                let types: Vec<_> = entry.field.iter().map(type_name).collect();
                (format!("map<{}>", types.join(",")), "map")
            }
            None => (type_name(field), label(field)),
        };
        let oneof = match field.oneof_index {
            Some(index) => message.oneof_decl[index as usize].name(),
            None => "-",
        };
        out.push(format!(
            "field {name} {} {} {kind} {label} json={} oneof={oneof}",
            field.number(),
            field.name(),
            field.json_name()
        ));
    }
    for nested in message.nested_type.iter().filter(|m| !is_map_entry(m)) {
        render_message(file, &name, nested, out);
    }
    for item in &message.enum_type {
        render_enum(&name, item, out);
    }
}

fn render_enum(scope: &str, item: &EnumDescriptorProto, out: &mut Vec<String>) {
    let name = full_name(scope, item.name());
    for value in &item.value {
        out.push(format!("enum {name} {} {}", value.number(), value.name()));
    }
}

/// The entry type behind a map field: a nested message that the compiler makes up.
fn map_entry<'a>(
    message: &'a DescriptorProto,
    field: &FieldDescriptorProto,
) -> Option<&'a DescriptorProto> {
    let (_, last) = field.type_name().rsplit_once('.')?;
    message.nested_type.iter().find(|m| is_map_entry(m) && m.name() == last)
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|o| o.map_entry())
}

fn label(field: &FieldDescriptorProto) -> &'static str {
    match field.label() {
        Label::Optional => "optional",
        Label::Required => "required",
        Label::Repeated => "repeated",
    }
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => plain(field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn full_name(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// A type reference without the dot in front that marks it as absolute.
fn plain(name: &str) -> String {
    name.trim_start_matches('.').to_owned()
}
