//! The files under `src/`, as syntax trees, without what is compiled for tests only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::{ParseStream, Parser};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, ItemMod};

/// One file under `src/`.
pub(crate) struct Source {
    /// Its path under `src/`, with `/`.
    pub(crate) file: String,
    /// What it holds; items under `#[cfg(test)]` are left out.
    pub(crate) syntax: syn::File,
}

impl Source {
    /// The module that the file is: `crate::store::redis` for `store/redis/mod.rs`.
    pub(crate) fn module_path(&self) -> String {
        module_path(&self.file)
    }
}

/// All files under `src/`, by their paths there.
pub(crate) fn read() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_files(&root, &mut files);
    let text = |file: &PathBuf| std::fs::read_to_string(file).expect("a source file can be read");
    let name = |file: &Path| file.strip_prefix(&root).expect("it lies under src").to_string_lossy().replace('\\', "/");
    files.iter().map(|file| (name(file), text(file))).collect()
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of src can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            collect_files(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

/// Parses the files, and leaves out those that hold only tests.
pub(crate) fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Source> {
    let mut tests = BTreeSet::new();
    let mut sources = Vec::new();
    for (file, text) in texts {
        let mut syntax = syn::parse_file(text).unwrap_or_else(|error| {
            panic!("src/{file}:{}: {error}", error.span().start().line);
        });
        remove_tests(&mut syntax.items, &module_path(file), &mut tests);
        sources.push(Source { file: file.to_owned(), syntax });
    }
    let is_test = |module: &str| tests.iter().any(|test| module == test || module.starts_with(&format!("{test}::")));
    sources.retain(|source| !is_test(&source.module_path()));
    sources
}

fn module_path(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => "crate".to_owned(),
        // Another crate, which names ours by its name.
        "main" => "main".to_owned(),
        path => format!("crate::{}", path.replace('/', "::")),
    }
}

/// Removes the items under `#[cfg(test)]` of a module, and notes the modules among them. A single statement under it stays.
fn remove_tests(items: &mut Vec<Item>, module: &str, tests: &mut BTreeSet<String>) {
    items.retain(|item| {
        let is_kept = !is_for_tests(attributes(item));
        if let (false, Item::Mod(inner)) = (is_kept, item) {
            tests.insert(format!("{module}::{}", inner.ident));
        }
        is_kept
    });
    for item in items {
        match item {
            Item::Mod(inner) => {
                if let Some((_, items)) = &mut inner.content {
                    remove_tests(items, &format!("{module}::{}", inner.ident), tests);
                }
            }
            Item::Impl(block) => block.items.retain(|item| match item {
                ImplItem::Const(item) => !is_for_tests(&item.attrs),
                ImplItem::Fn(item) => !is_for_tests(&item.attrs),
                _ => true,
            }),
            _ => {}
        }
    }
}

/// Whether one of them is `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let condition = attribute.meta.require_list().map(|list| words(list.tokens.clone())).unwrap_or_default();
        let says = |word: &str| condition.iter().any(|said| said == word);
        says("test") && !says("not") && !says("any")
    })
}

fn words(tokens: TokenStream) -> Vec<String> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(word) => vec![word.to_string()],
            TokenTree::Group(group) => words(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
        })
        .collect()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Reads the items of a module inside a file. `module` is the path of the module that the reader is in. Meanwhile it is the
/// path of the inner module.
pub(crate) fn read_module<'ast, R: Visit<'ast>>(
    reader: &mut R,
    item: &'ast ItemMod,
    module: impl Fn(&mut R) -> &mut String,
) {
    let inner = format!("{}::{}", module(reader), item.ident);
    let outer = std::mem::replace(module(reader), inner);
    visit::visit_item_mod(reader, item);
    *module(reader) = outer;
}

/// The expressions among what a macro is given. `tokio::select!` takes more than expressions, so they are looked for from
/// every token on.
pub(crate) fn expressions(tokens: TokenStream) -> Vec<Expr> {
    let beginning = |input: ParseStream| Ok((input.parse::<Expr>()?, input.parse::<TokenStream>()?));
    let mut found = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        rest = match beginning.parse2(rest.clone()) {
            Ok((expression, rest)) => {
                found.push(expression);
                rest
            }
            Err(_) => {
                let mut tokens = rest.into_iter();
                if let Some(TokenTree::Group(group)) = tokens.next() {
                    found.extend(expressions(group.stream()));
                }
                tokens.collect()
            }
        };
    }
    found
}
