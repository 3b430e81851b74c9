//! Builds again when a page or a migration is added: both are read at compile time.

fn main() {
    println!("cargo::rerun-if-changed=../web");
    println!("cargo::rerun-if-changed=migrations");
}
