//! A host may load the library at run time, unload it, and load it again.

mod support;

use support::{Backend, Program, library};

#[test]
fn it_stays_when_it_is_unloaded_and_works_when_it_is_loaded_again() {
    let backend = Backend::start();
    let program = Program::compile_alone("tests/c/plugin.c");
    let path = library();
    program.run(&backend, &[path.to_str().expect("a path of ours"), "3"]);
    backend.wait_for(|counts| counts.received >= 3);
    assert!(backend.segments().get(&b"plugin"[..]).is_some_and(|times| *times >= 3));
}
