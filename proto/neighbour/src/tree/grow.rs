//! Takes a message apart: a serializer that yields a tree.

use serde::ser::{
    Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant, Serializer,
};

use super::{Tree, TreeError};

pub(super) struct Grow;

/// Values one after the other, of a variant if it has a name.
pub(super) struct Values(Option<&'static str>, Vec<Tree>);

pub(super) struct Pairs(Vec<(Tree, Tree)>);

/// Fields, of a variant if it has a name.
pub(super) struct Fields(Option<&'static str>, Vec<(String, Tree)>);

fn named(variant: Option<&'static str>, value: Tree) -> Tree {
    match variant {
        Some(name) => Tree::Variant(name.into(), Some(Box::new(value))),
        None => value,
    }
}

type Grown = Result<Tree, TreeError>;

impl Serializer for Grow {
    type Ok = Tree;
    type Error = TreeError;
    type SerializeSeq = Values;
    type SerializeTuple = Values;
    type SerializeTupleStruct = Impossible<Tree, TreeError>;
    type SerializeTupleVariant = Values;
    type SerializeMap = Pairs;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    fn is_human_readable(&self) -> bool {
        false
    }
    fn serialize_bool(self, value: bool) -> Grown {
        Ok(Tree::Bool(value))
    }
    fn serialize_i8(self, value: i8) -> Grown {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Grown {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Grown {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Grown {
        Ok(Tree::Signed(value))
    }
    fn serialize_u8(self, value: u8) -> Grown {
        self.serialize_u64(value.into())
    }
    fn serialize_u16(self, value: u16) -> Grown {
        self.serialize_u64(value.into())
    }
    fn serialize_u32(self, value: u32) -> Grown {
        self.serialize_u64(value.into())
    }
    fn serialize_u64(self, value: u64) -> Grown {
        Ok(Tree::Unsigned(value))
    }
    fn serialize_f32(self, value: f32) -> Grown {
        self.serialize_f64(value.into())
    }
    fn serialize_f64(self, value: f64) -> Grown {
        Ok(Tree::Float(value))
    }
    fn serialize_char(self, value: char) -> Grown {
        Ok(Tree::Str(value.into()))
    }
    fn serialize_str(self, value: &str) -> Grown {
        Ok(Tree::Str(value.into()))
    }
    fn serialize_bytes(self, value: &[u8]) -> Grown {
        Ok(Tree::Bytes(value.into()))
    }
    fn serialize_none(self) -> Grown {
        Ok(Tree::Nil)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Grown {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Grown {
        Ok(Tree::Nil)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Grown {
        Ok(Tree::Nil)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Grown {
        Ok(Tree::Variant(variant.into(), None))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Grown {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Grown {
        Ok(named(Some(variant), value.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Values, TreeError> {
        Ok(Values(None, Vec::new()))
    }
    fn serialize_tuple(self, _: usize) -> Result<Values, TreeError> {
        Ok(Values(None, Vec::new()))
    }
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, TreeError> {
        Err(serde::ser::Error::custom(format!("{name} has fields without names, to which none can be added")))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Values, TreeError> {
        Ok(Values(Some(variant), Vec::new()))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Pairs, TreeError> {
        Ok(Pairs(Vec::new()))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, TreeError> {
        Ok(Fields(None, Vec::new()))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, TreeError> {
        Ok(Fields(Some(variant), Vec::new()))
    }
}

impl SerializeSeq for Values {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        self.1.push(value.serialize(Grow)?);
        Ok(())
    }
    fn end(self) -> Grown {
        Ok(named(self.0, Tree::Seq(self.1)))
    }
}

impl SerializeTuple for Values {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Grown {
        SerializeSeq::end(self)
    }
}

impl SerializeTupleVariant for Values {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Grown {
        SerializeSeq::end(self)
    }
}

impl SerializeMap for Pairs {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), TreeError> {
        self.0.push((key.serialize(Grow)?, Tree::Nil));
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TreeError> {
        if let Some((_, last)) = self.0.last_mut() {
            *last = value.serialize(Grow)?;
        }
        Ok(())
    }
    fn end(self) -> Grown {
        Ok(Tree::Map(self.0))
    }
}

impl SerializeStruct for Fields {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), TreeError> {
        self.1.push((name.into(), value.serialize(Grow)?));
        Ok(())
    }
    fn end(self) -> Grown {
        Ok(named(self.0, Tree::Struct(self.1)))
    }
}

impl SerializeStructVariant for Fields {
    type Ok = Tree;
    type Error = TreeError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), TreeError> {
        SerializeStruct::serialize_field(self, name, value)
    }
    fn end(self) -> Grown {
        SerializeStruct::end(self)
    }
}
