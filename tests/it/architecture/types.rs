//! The types of what the crate declares: fields, what functions take and return, constants.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Block, Expr, Fields, FnArg, Generics, Signature, Type, TypeParamBound};

use super::names::{Names, written};
use super::source::Source;

/// The types that a type is made of, by their paths: `Arc<Table>` is an `Arc` and a `Table`.
///
/// What wraps a value hands on what is in it, so that nobody has to know every wrapper.
pub(crate) type Types = BTreeSet<String>;

/// Something with a path of its own: `crate::session::Services::table` is a field.
#[derive(Default)]
pub(crate) struct Declaration {
    /// What a function takes, besides `self`.
    pub(crate) inputs: Vec<Types>,
    /// What it is, or what a function returns.
    pub(crate) output: Types,
}

/// All declarations of the crate.
#[derive(Default)]
pub(crate) struct Declarations<'a> {
    things: BTreeMap<String, Declaration>,
    /// The types that lend a type their methods: its traits; what it is an alias of; what it derefs to.
    bases: BTreeMap<String, Types>,
    /// The code, to be read once every declaration is known.
    pub(crate) bodies: Vec<Body<'a>>,
}

/// A piece of code, and what it is in.
pub(crate) struct Body<'a> {
    pub(crate) file: &'a str,
    pub(crate) scope: Scope,
    pub(crate) signature: Option<&'a Signature>,
    pub(crate) code: Code<'a>,
}

pub(crate) enum Code<'a> {
    Block(&'a Block),
    Value(&'a Expr),
}

/// What the names in a type mean at a place.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    pub(crate) module: String,
    /// `Self`.
    pub(crate) own: Option<String>,
    /// The bounds of each type parameter.
    generics: BTreeMap<String, Types>,
}

impl Scope {
    /// Where a path leads. A type parameter leads to each of its bounds.
    pub(crate) fn resolve(&self, names: &Names, path: &str) -> Types {
        let (first, rest) =
            path.split_once("::").map_or((path, String::new()), |(first, rest)| (first, format!("::{rest}")));
        match self.generics.get(first) {
            Some(bounds) => bounds.iter().map(|bound| format!("{bound}{rest}")).collect(),
            None if first == "Self" => self.own.iter().map(|own| format!("{own}{rest}")).collect(),
            None => [names.resolve(&self.module, path)].into(),
        }
    }

    pub(crate) fn types(&self, names: &Names, ty: &Type) -> Types {
        let mut mentioned = Mentioned { scope: self, names, types: Types::new() };
        mentioned.visit_type(ty);
        mentioned.types
    }

    fn bounds<'b>(&self, names: &Names, bounds: impl IntoIterator<Item = &'b TypeParamBound>) -> Types {
        let mut mentioned = Mentioned { scope: self, names, types: Types::new() };
        bounds.into_iter().for_each(|bound| mentioned.visit_type_param_bound(bound));
        mentioned.types
    }

    fn within(&self, names: &Names, generics: &Generics) -> Self {
        let mut inner = self.clone();
        for parameter in generics.type_params() {
            inner.generics.insert(parameter.ident.to_string(), self.bounds(names, &parameter.bounds));
        }
        for predicate in generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
            if let syn::WherePredicate::Type(predicate) = predicate
                && let Type::Path(ty) = &predicate.bounded_ty
                && let Some(known) = inner.generics.get_mut(&written(&ty.path))
            {
                known.extend(self.bounds(names, &predicate.bounds));
            }
        }
        inner
    }
}

/// Collects the types that a type mentions.
struct Mentioned<'a> {
    scope: &'a Scope,
    names: &'a Names,
    types: Types,
}

impl<'ast> Visit<'ast> for Mentioned<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.types.extend(self.scope.resolve(self.names, &written(path)));
        visit::visit_path(self, path);
    }
}

impl<'a> Declarations<'a> {
    pub(crate) fn read(sources: &'a [Source], names: &Names) -> Self {
        let mut declarations = Self::default();
        for source in sources {
            let scope = Scope { module: source.module_path(), ..Scope::default() };
            Reader { names, declarations: &mut declarations, file: &source.file, scope }.visit_file(&source.syntax);
        }
        declarations
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Declaration> {
        self.things.get(path)
    }

    /// The fields and methods of that name which values of these types may have, by their paths.
    pub(crate) fn members(&self, types: &Types, name: &str) -> Vec<(String, &Declaration)> {
        let mut seen = Types::new();
        let mut open: Vec<&String> = types.iter().collect();
        let mut found = Vec::new();
        while let Some(ty) = open.pop() {
            if seen.insert(ty.clone()) {
                let path = format!("{ty}::{name}");
                found.extend(self.things.get(&path).map(|declaration| (path, declaration)));
                open.extend(self.bases.get(ty).into_iter().flatten());
            }
        }
        found
    }

    fn declare(&mut self, path: String, inputs: Vec<Types>, output: Types) {
        let declaration = self.things.entry(path).or_default();
        // A method may have the name of a field.
        declaration.inputs.extend(inputs);
        declaration.output.extend(output);
    }
}

struct Reader<'a, 'd> {
    names: &'d Names,
    declarations: &'d mut Declarations<'a>,
    file: &'a str,
    scope: Scope,
}

impl<'a> Reader<'a, '_> {
    /// Does this in an inner scope.
    fn within(&mut self, scope: Scope, read: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.scope, scope);
        read(self);
        self.scope = outer;
    }

    fn here(&self, name: impl std::fmt::Display) -> String {
        format!("{}::{name}", self.scope.own.as_ref().unwrap_or(&self.scope.module))
    }

    /// A struct or a variant: its fields, and what makes one of `output`.
    fn fields(&mut self, path: &str, fields: &Fields, output: &str) {
        let mut inputs = Vec::new();
        for (position, field) in fields.iter().enumerate() {
            let name = field.ident.as_ref().map_or(position.to_string(), ToString::to_string);
            let types = self.scope.types(self.names, &field.ty);
            self.declarations.declare(format!("{path}::{name}"), Vec::new(), types.clone());
            inputs.push(types);
        }
        self.declarations.declare(path.to_owned(), inputs, [output.to_owned()].into());
    }

    fn function(&mut self, signature: &'a Signature, block: Option<&'a Block>) {
        let path = self.here(&signature.ident);
        let scope = self.scope.within(self.names, &signature.generics);
        let typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(input) => Some(scope.types(self.names, &input.ty)),
            FnArg::Receiver(_) => None,
        });
        let output = match &signature.output {
            syn::ReturnType::Type(_, ty) => scope.types(self.names, ty),
            syn::ReturnType::Default => Types::new(),
        };
        self.declarations.declare(path, typed.collect(), output);
        let Some(block) = block else { return };
        self.declarations.bodies.push(Body {
            file: self.file,
            scope: scope.clone(),
            signature: Some(signature),
            code: Code::Block(block),
        });
        // The items in a function are not those of its type.
        self.within(Scope { own: None, ..scope }, |reader| reader.visit_block(block));
    }

    fn constant(&mut self, name: &syn::Ident, ty: &Type, value: &'a Expr) {
        let types = self.scope.types(self.names, ty);
        self.declarations.declare(self.here(name), Vec::new(), types);
        let (file, scope) = (self.file, self.scope.clone());
        self.declarations.bodies.push(Body { file, scope, signature: None, code: Code::Value(value) });
    }

    fn base(&mut self, ty: String, bases: Types) {
        self.declarations.bases.entry(ty).or_default().extend(bases);
    }
}

impl<'a> Visit<'a> for Reader<'a, '_> {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        let scope = Scope { module: self.here(&item.ident), ..Scope::default() };
        self.within(scope, |reader| visit::visit_item_mod(reader, item));
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        let path = self.here(&item.ident);
        let scope = Scope { own: Some(path.clone()), ..self.scope.within(self.names, &item.generics) };
        self.within(scope, |reader| reader.fields(&path, &item.fields, &path));
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        let path = self.here(&item.ident);
        let scope = Scope { own: Some(path.clone()), ..self.scope.within(self.names, &item.generics) };
        self.within(scope, |reader| {
            for variant in &item.variants {
                reader.fields(&format!("{path}::{}", variant.ident), &variant.fields, &path);
            }
        });
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        let path = self.here(&item.ident);
        let scope = Scope { own: Some(path.clone()), ..self.scope.within(self.names, &item.generics) };
        self.base(path, scope.bounds(self.names, &item.supertraits));
        self.within(scope, |reader| visit::visit_item_trait(reader, item));
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let Type::Path(ty) = &*item.self_ty else { return };
        let generic = self.scope.within(self.names, &item.generics);
        let own = generic.resolve(self.names, &written(&ty.path)).into_iter().next();
        if let (Some(own), Some((path, _))) = (&own, &item.trait_) {
            self.base(own.clone(), generic.resolve(self.names, &written(path)));
        }
        self.within(Scope { own, ..generic }, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_impl_item_type(&mut self, item: &'a syn::ImplItemType) {
        if let (true, Some(own)) = (item.ident == "Target", self.scope.own.clone()) {
            self.base(own, self.scope.types(self.names, &item.ty));
        }
    }

    fn visit_item_type(&mut self, item: &'a syn::ItemType) {
        let types = self.scope.within(self.names, &item.generics).types(self.names, &item.ty);
        self.base(self.here(&item.ident), types);
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.function(&item.sig, Some(&item.block));
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.sig, Some(&item.block));
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.function(&item.sig, item.default.as_ref());
    }

    fn visit_item_const(&mut self, item: &'a syn::ItemConst) {
        self.constant(&item.ident, &item.ty, &item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'a syn::ImplItemConst) {
        self.constant(&item.ident, &item.ty, &item.expr);
    }

    fn visit_item_static(&mut self, item: &'a syn::ItemStatic) {
        self.constant(&item.ident, &item.ty, &item.expr);
    }
}
