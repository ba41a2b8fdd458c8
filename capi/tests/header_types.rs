//! `skytls.h` says of every function, type and number what the Rust code says.
//!
//! The sources are read as Rust, and everything that C programs get to see is declared once more from there, behind
//! the header: a C compiler refuses a second declaration that differs from the first. `ci/capi` compares the text too.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use syn::{
    Expr, Fields, FnArg, GenericArgument, Ident, Item, Lit, Pat, PathArguments, ReturnType,
    Signature, Type, UnOp, Visibility,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a machine that builds this can do.
const WORKS: &str = "files work";

/// What C programs get to see, in C, and how much of it.
#[derive(Default)]
struct Declarations {
    text: String,
    functions: BTreeSet<String>,
    structures: usize,
    callbacks: usize,
    numbers: usize,
}

#[test]
fn every_declaration_is_what_the_rust_code_says() {
    let declarations = Declarations::read();
    assert!(declarations.structures >= 4 && declarations.callbacks >= 5);
    assert!(declarations.numbers >= 40 && declarations.functions.len() >= 60);
    let header = fs::read_to_string(Path::new(ROOT).join("include/skytls.h")).unwrap();
    support::told(&compile(&header, &declarations.text));
    // The declarations are the header's, and not new ones.
    for function in &declarations.functions {
        assert!(header.contains(&format!("{function}(")), "{function}");
    }
}

#[test]
fn a_header_that_differs_is_refused() {
    let text = Declarations::read().text;
    let header = fs::read_to_string(Path::new(ROOT).join("include/skytls.h")).unwrap();
    for (before, after) in [
        ("uint32_t timeout_ms", "uint64_t timeout_ms"),
        ("const char *skytls_error_text", "char *skytls_error_text"),
        ("(const struct skytls_error *error)", "(struct skytls_error *error)"),
        (
            "void (*skytls_state_callback)(void *userdata, int state",
            "void (*skytls_state_callback)(void *userdata, long state",
        ),
        ("char cipher[64]", "char cipher[65]"),
        ("uint64_t recovered;", "int64_t recovered;"),
        ("SKYTLS_QUEUE_FULL 801", "SKYTLS_QUEUE_FULL 802"),
    ] {
        let changed = header.replace(before, after);
        assert_ne!(changed, header, "{before}");
        let output = compile(&changed, &text);
        assert!(!output.status.success(), "{after} was taken for {before}");
    }
}

/// Compiles a header with declarations behind it.
fn compile(header: &str, declarations: &str) -> Output {
    let folder = tempfile::tempdir().expect(WORKS);
    fs::write(folder.path().join("skytls.h"), header).expect(WORKS);
    let source = folder.path().join("again.c");
    fs::write(&source, format!("#include <skytls.h>\n{declarations}")).expect(WORKS);
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"]);
    command.arg(folder.path()).arg(&source).output().expect("there is a C compiler")
}

// === impl Declarations ===

impl Declarations {
    fn read() -> Self {
        let mut all = Self::default();
        let mut files: Vec<_> = fs::read_dir(Path::new(ROOT).join("src"))
            .expect(WORKS)
            .map(|entry| entry.expect(WORKS).path())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).expect(WORKS);
            let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
            parsed.items.iter().for_each(|item| all.add(item));
        }
        all
    }

    fn add(&mut self, item: &Item) {
        match item {
            Item::Fn(function) if function.sig.abi.is_some() && is_public(&function.vis) => {
                self.function(&function.sig);
            }
            Item::Type(alias) if is_public(&alias.vis) => {
                let declared = declare(&alias.ty, &alias.ident.to_string(), false);
                self.text += &format!("typedef {declared};\n");
                self.callbacks += 1;
            }
            Item::Struct(structure)
                if is_public(&structure.vis)
                    && structure
                        .attrs
                        .iter()
                        .any(|attribute| attribute.path().is_ident("repr")) =>
            {
                self.structure(&structure.ident, &structure.fields);
            }
            Item::Const(number) if is_public(&number.vis) => {
                let (name, value) = (&number.ident, value(&number.expr));
                self.text += &format!("_Static_assert({name} == {value}, \"{name}\");\n");
                self.numbers += 1;
            }
            _ => {}
        }
    }

    fn function(&mut self, signature: &Signature) {
        let parameters = signature.inputs.iter().map(|input| match input {
            FnArg::Typed(typed) => match &*typed.pat {
                Pat::Ident(name) => declare(&typed.ty, &name.ident.to_string(), false),
                _ => panic!("a parameter without a name"),
            },
            FnArg::Receiver(_) => panic!("a method"),
        });
        let name = signature.ident.to_string();
        let declared = returning(&signature.output, &format!("{name}({})", list(parameters)));
        self.text += &format!("{declared};\n");
        self.functions.insert(name);
    }

    /// Its like, member by member at the same place and of the same type.
    fn structure(&mut self, name: &Ident, fields: &Fields) {
        let members: Vec<_> =
            fields.iter().map(|field| (field.ident.as_ref().expect("a name"), &field.ty)).collect();
        let like = format!("struct like_{name}");
        let body: String = members
            .iter()
            .map(|(field, ty)| format!("{}; ", declare(ty, &field.to_string(), false)))
            .collect();
        self.text += &format!("{like} {{ {body}}};\n");
        self.text += &format!("_Static_assert(sizeof({name}) == sizeof({like}), \"{name}\");\n");
        for (field, _) in members {
            self.text += &format!(
                "_Static_assert(offsetof({name}, {field}) == offsetof({like}, {field}) && \
                 __builtin_types_compatible_p(__typeof__((({name} *)0)->{field}), \
                 __typeof__((({like} *)0)->{field})), \"{name}.{field}\");\n"
            );
        }
        self.structures += 1;
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// A declaration in C: of something of this type, called that.
fn declare(ty: &Type, name: &str, constant: bool) -> String {
    let qualifier = if constant { "const " } else { "" };
    match ty {
        Type::Ptr(pointer) => {
            declare(&pointer.elem, &format!("*{qualifier}{name}"), pointer.const_token.is_some())
        }
        Type::Array(array) => {
            declare(&array.elem, &format!("{name}[{}]", value(&array.len)), constant)
        }
        Type::BareFn(function) => {
            assert!(function.abi.is_some(), "a callback of Rust's: {name}");
            let parameters = function.inputs.iter().map(|input| {
                let name = input.name.as_ref().map(|(name, _)| name.to_string());
                declare(&input.ty, &name.unwrap_or_default(), false)
            });
            returning(&function.output, &format!("(*{name})({})", list(parameters)))
        }
        Type::Path(path) => {
            let last = path.path.segments.last().expect("a name");
            if let PathArguments::AngleBracketed(arguments) = &last.arguments {
                let Some(GenericArgument::Type(inner)) = arguments.args.first() else {
                    panic!("{name}: {}", last.ident)
                };
                assert!(last.ident == "Option" && matches!(inner, Type::BareFn(_)), "{name}");
                return declare(inner, name, constant);
            }
            format!("{qualifier}{} {name}", in_c(&last.ident.to_string()))
        }
        _ => panic!("{name}: not a type of C"),
    }
}

fn in_c(name: &str) -> &str {
    match name {
        "c_int" => "int",
        "c_char" => "char",
        "c_void" => "void",
        "u8" => "uint8_t",
        "i32" => "int32_t",
        "u32" => "uint32_t",
        "i64" => "int64_t",
        "u64" => "uint64_t",
        "usize" => "size_t",
        other if other.starts_with("skytls_") => other,
        other => panic!("not a type of C: {other}"),
    }
}

fn returning(output: &ReturnType, declarator: &str) -> String {
    match output {
        ReturnType::Default => format!("void {declarator}"),
        ReturnType::Type(_, ty) => declare(ty, declarator, false),
    }
}

fn list(parameters: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = parameters.collect();
    if all.is_empty() { "void".to_owned() } else { all.join(", ") }
}

/// A whole number, as it is written.
fn value(expression: &Expr) -> String {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_digits().to_owned(),
            _ => panic!("not a number"),
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => {
            format!("-{}", value(&unary.expr))
        }
        _ => panic!("not a number"),
    }
}
