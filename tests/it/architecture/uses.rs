//! What a file says: the paths that it names, and its texts.

use proc_macro2::Span;
use syn::visit::{self, Visit};

use super::names::{self, Names};
use super::source::{self, Source};

/// A thing of another place that a file uses.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) line: usize,
    /// From the root: `crate::…` or another crate.
    pub(crate) path: String,
    pub(crate) how: How,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The code names its path.
    Named,
    /// The code has a value of its type, and touches a field or a method.
    Reached,
}

/// Every path that the code of a file names, whether in a `use`, in the code or in what a macro is given.
pub(crate) fn named(source: &Source, names: &Names) -> Vec<Use> {
    read(source, names).uses
}

/// Every text in the code, with its line; comments are none.
pub(crate) fn texts(source: &Source) -> Vec<(usize, String)> {
    read(source, &Names::default()).texts
}

/// Words whose places are of interest.
pub(crate) const WORDS: &[&str] = &["expose_secret"];

/// Each of [`WORDS`] in the code, with its line; in comments and texts there are none.
pub(crate) fn words(source: &Source) -> Vec<(usize, &'static str)> {
    read(source, &Names::default()).words
}

fn read<'a>(source: &Source, names: &'a Names) -> Reader<'a> {
    let mut reader =
        Reader { names, module: source.module_path(), uses: Vec::new(), texts: Vec::new(), words: Vec::new() };
    reader.visit_file(&source.syntax);
    reader
}

struct Reader<'a> {
    names: &'a Names,
    module: String,
    uses: Vec<Use>,
    texts: Vec<(usize, String)>,
    words: Vec<(usize, &'static str)>,
}

impl Reader<'_> {
    /// Notes the path as it is named. If that is a re-export, notes also where the thing is.
    fn name(&mut self, line: usize, path: &str) {
        let (named, origin) = (self.names.absolute(&self.module, path), self.names.resolve(&self.module, path));
        if origin != named {
            self.uses.push(Use { line, path: origin, how: How::Named });
        }
        self.uses.push(Use { line, path: named, how: How::Named });
    }

    fn text(&mut self, span: Span, text: String) {
        self.texts.push((span.start().line, text));
    }

    fn tokens(&mut self, tokens: &proc_macro2::TokenStream) {
        source::expressions(tokens.clone()).iter().for_each(|expression| self.visit_expr(expression));
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        source::read_module(self, item, |reader| &mut reader.module);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        names::imports(item).iter().for_each(|import| self.name(import.line, &import.path));
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        let known = WORDS.iter().filter(|word| ident == **word);
        self.words.extend(known.map(|word| (ident.span().start().line, *word)));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // One word is a thing of this module, or one that a `use` has named.
        if path.segments.len() > 1 && path.segments[0].ident != "Self" {
            self.name(path.segments[0].ident.span().start().line, &names::written(path));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(&call.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        // A comment of documentation is one too.
        if !attribute.path().is_ident("doc") {
            visit::visit_attribute(self, attribute);
        }
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.tokens(&list.tokens);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.text(text.span(), text.value());
    }

    fn visit_lit_byte_str(&mut self, text: &'ast syn::LitByteStr) {
        self.text(text.span(), String::from_utf8_lossy(&text.value()).into_owned());
    }

    fn visit_lit_cstr(&mut self, text: &'ast syn::LitCStr) {
        self.text(text.span(), text.value().to_string_lossy().into_owned());
    }
}
