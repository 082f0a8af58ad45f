//! What a name stands for in a module: `use`, `self`, `super` and re-exports are followed to where the thing is.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use super::source::{self, Source};

/// The modules of the crate by their paths (`crate::store::redis`), and the names in each.
#[derive(Default)]
pub(crate) struct Names {
    modules: BTreeMap<String, Module>,
}

#[derive(Default)]
struct Module {
    /// What it defines.
    items: BTreeSet<String>,
    /// What its `use` bring: the path as it is written, by the name that it has here.
    imports: BTreeMap<String, String>,
    /// The paths before its `::*`.
    globs: Vec<String>,
}

/// One name that a `use` brings.
pub(crate) struct Import {
    pub(crate) line: usize,
    /// As it is written, without braces.
    pub(crate) path: String,
    /// What it is called here. `None` is `*`.
    name: Option<String>,
}

impl Names {
    pub(crate) fn read(sources: &[Source]) -> Self {
        let mut names = Self::default();
        for source in sources {
            let module = source.module_path();
            if let Some((parent, name)) = module.rsplit_once("::") {
                names.modules.entry(parent.to_owned()).or_default().items.insert(name.to_owned());
            }
            names.modules.entry(module.clone()).or_default();
            Reader { names: &mut names, module }.visit_file(&source.syntax);
        }
        names
    }

    /// Where a path leads that is written in a module: `crate::…`, or a path from another crate.
    pub(crate) fn resolve(&self, module: &str, path: &str) -> String {
        let mut path = self.absolute(module, path);
        // Re-exports of re-exports end; a circle of them does not compile.
        for _ in 0..8 {
            match self.re_exported(&path) {
                Some(origin) => path = origin,
                None => break,
            }
        }
        path
    }

    /// The same, without following re-exports: the path as another module would write it.
    pub(crate) fn absolute(&self, module: &str, path: &str) -> String {
        if let Some(path) = path.strip_prefix("::") {
            return from_crates(path);
        }
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        match first {
            "crate" => path.to_owned(),
            "self" => join(module, rest),
            "super" => {
                let parent = module.rsplit_once("::").map_or("crate", |(parent, _)| parent);
                match rest.split("::").next() {
                    Some("super") => self.absolute(parent, rest),
                    _ => join(parent, rest),
                }
            }
            _ => match self.modules.get(module) {
                Some(here) if here.items.contains(first) => join(module, path),
                Some(Module { imports, .. }) if imports.get(first).is_some_and(|origin| leads_away(origin, first)) => {
                    join(&self.absolute(module, &imports[first]), rest)
                }
                Some(here) => match self.glob_with(module, here, first) {
                    Some(origin) => join(&origin, path),
                    None => from_crates(path),
                },
                None => from_crates(path),
            },
        }
    }

    /// Where the first name leads that a module on the path has from elsewhere.
    fn re_exported(&self, path: &str) -> Option<String> {
        let mut module = "crate";
        for (position, _) in path.match_indices("::").skip(1).chain([(path.len(), "")]) {
            let here = self.modules.get(module)?;
            let name = path.get(module.len() + 2..position)?;
            if !here.items.contains(name) {
                let origin = here.imports.get(name).map(|origin| self.absolute(module, origin));
                let origin = origin.or_else(|| Some(join(&self.glob_with(module, here, name)?, name)))?;
                return Some(format!("{origin}{}", &path[position..])).filter(|origin| origin != path);
            }
            module = &path[..position];
        }
        None
    }

    /// The module that a `*` of this one names, and that has the name.
    fn glob_with(&self, module: &str, here: &Module, name: &str) -> Option<String> {
        let mut origins = here.globs.iter().filter(|glob| *glob != module).map(|glob| self.absolute(module, glob));
        origins.find(|origin| self.modules.get(origin).is_some_and(|there| there.items.contains(name)))
    }
}

/// `use bytes;` says nothing, and would be followed for ever.
fn leads_away(origin: &str, name: &str) -> bool {
    origin.split("::").next() != Some(name)
}

/// `main` names our own crate by its name.
fn from_crates(path: &str) -> String {
    match path.strip_prefix(env!("CARGO_PKG_NAME")) {
        Some(rest) if rest.is_empty() || rest.starts_with("::") => format!("crate{rest}"),
        _ => path.to_owned(),
    }
}

fn join(path: &str, rest: &str) -> String {
    if rest.is_empty() { path.to_owned() } else { format!("{path}::{rest}") }
}

/// A path as it is written, without its generic arguments.
pub(crate) fn written(path: &syn::Path) -> String {
    let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    format!("{}{}", if path.leading_colon.is_some() { "::" } else { "" }, segments.join("::"))
}

/// Each name that a `use` brings.
pub(crate) fn imports(item: &syn::ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    flatten(&item.tree, if item.leading_colon.is_some() { "::" } else { "" }, &mut found);
    found
}

fn flatten(tree: &UseTree, prefix: &str, found: &mut Vec<Import>) {
    let below = |name: &dyn ToString| match prefix {
        "" | "::" => format!("{prefix}{}", name.to_string()),
        prefix => format!("{prefix}::{}", name.to_string()),
    };
    let mut add = |ident: &syn::Ident, name: &syn::Ident| {
        let path = if ident == "self" && !prefix.is_empty() { prefix.to_owned() } else { below(ident) };
        let name =
            if name == "self" { path.rsplit("::").next().unwrap_or_default().to_owned() } else { name.to_string() };
        found.push(Import { line: ident.span().start().line, path, name: Some(name) });
    };
    match tree {
        UseTree::Path(tree) => flatten(&tree.tree, &below(&tree.ident), found),
        UseTree::Name(tree) => add(&tree.ident, &tree.ident),
        UseTree::Rename(tree) => add(&tree.ident, &tree.rename),
        UseTree::Glob(tree) => {
            let line = tree.star_token.spans[0].start().line;
            found.push(Import { line, path: prefix.to_owned(), name: None });
        }
        UseTree::Group(tree) => tree.items.iter().for_each(|tree| flatten(tree, prefix, found)),
    }
}

struct Reader<'a> {
    names: &'a mut Names,
    module: String,
}

impl Reader<'_> {
    fn here(&mut self) -> &mut Module {
        self.names.modules.entry(self.module.clone()).or_default()
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Mod(item) => &item.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            _ => return visit::visit_item(self, item),
        };
        let name = name.to_string();
        self.here().items.insert(name);
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        source::read_module(self, item, |reader| &mut reader.module);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for Import { path, name, .. } in imports(item) {
            match name {
                Some(name) => {
                    self.here().imports.insert(name, path);
                }
                None => self.here().globs.push(path),
            }
        }
    }
}
