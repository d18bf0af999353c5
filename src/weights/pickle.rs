//! A reader of Python's pickles that builds plain values and nothing else.
//!
//! A pickle is a program for a small stack machine, and Python's own runs whatever function it names. This one knows the
//! instructions that `torch.save` writes (Python's `pickletools` describes each), and the few [`Global`]s that a tensor is made
//! of; any other is refused by its name. Nothing is called. Values lie in one list and point to each other by index, so that
//! neither deep nesting nor a cycle costs stack; and instructions are counted, each of which keeps one thing at most.

use std::collections::HashMap;

use candle_core::DType;
use thiserror::Error;

/// More instructions than any checkpoint has: DenseNet121's has 25 thousand.
const MAX_STEPS: usize = 1 << 20;
/// More bytes than the pickle of any checkpoint has, whose tensors stand outside of it.
pub const MAX_BYTES: usize = 1 << 26;

/// Index of a value in its [`Pickle`].
pub type Id = usize;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    None,
    /// Numbers that are not needed: floats, and integers beyond 64 bits.
    Other,
    Int(i64),
    Str(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// Something that stands outside the pickle, by what it is called.
    Persistent(Id),
    /// What `function` would make of the tuple `arguments`.
    Call {
        function: Global,
        arguments: Id,
    },
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`, and the one before it, whose arguments are its first.
    Tensor,
    /// `torch._utils._rebuild_parameter`
    Parameter,
    /// `torch.FloatStorage` and the like.
    Storage(Element),
}

/// What a storage is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// `None` for types that no weight has, such as integers.
    pub dtype: Option<DType>,
    /// In bytes.
    pub size: usize,
}

impl Global {
    fn of(module: &str, name: &str) -> Option<Self> {
        let float = |dtype: DType| Self::Storage(Element { dtype: Some(dtype), size: dtype.size_in_bytes() });
        let other = |size| Self::Storage(Element { dtype: None, size });
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::Tensor,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch", "FloatStorage") => float(DType::F32),
            ("torch", "DoubleStorage") => float(DType::F64),
            ("torch", "HalfStorage") => float(DType::F16),
            ("torch", "BFloat16Storage") => float(DType::BF16),
            ("torch", "LongStorage") => other(8),
            ("torch", "IntStorage") => other(4),
            ("torch", "ShortStorage") => other(2),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => other(1),
            _ => return None,
        })
    }
}

/// Why a pickle was not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PickleError {
    #[error("the pickle ends in the middle")]
    Truncated,
    #[error(
        "the pickle names {0}, which is no part of a tensor; nothing of a pickle is ever run; save the network's state_dict() \
         alone"
    )]
    Forbidden(String),
    #[error("the pickle has an instruction 0x{code:02x} at byte {at}, which no saved tensor needs")]
    Instruction { code: u8, at: usize },
    #[error("the pickle contradicts itself at byte {at}: {what}")]
    Broken { what: &'static str, at: usize },
    #[error("the pickle is larger than that of any network")]
    TooLarge,
}

/// The values of one pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    /// Bytes that it takes.
    pub length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`; what follows it is not looked at.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            steps: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { values: machine.values, root, length: machine.at })
    }

    /// The value that the pickle stands for.
    pub fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    /// Every value of it.
    pub fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// A value of it.
    pub fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id).unwrap_or(&Value::None)
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Instructions so far, and values that one of them copied.
    steps: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; false after the last.
    fn step(&mut self) -> Result<bool, PickleError> {
        let at = self.at;
        self.count(1)?;
        match self.byte()? {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?), // version
            0x95 => drop(self.take(8)?), // frame
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Other)?, // true, false
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)?;
            }
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))?;
            }
            0x8a => {
                let length = self.byte()?.into();
                self.long(length)?;
            }
            b'U' | 0x8c => self.string(1)?,
            b'X' | b'T' => self.string(4)?,
            0x8d => self.string(8)?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.insert(&items)?;
            }
            b'q' => {
                let index = self.byte()?.into();
                self.remember(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)?;
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|_| PickleError::TooLarge)?;
                self.remember(index)?;
            }
            b'h' => {
                let index = self.byte()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Str(module), Value::Str(name)) = (self.values[module].clone(), self.values[name].clone())
                else {
                    return Err(self.broken("a function is named by something that is no text"));
                };
                self.global(module, name)?;
            }
            b'Q' => {
                let name = self.pop()?;
                self.push(Value::Persistent(name))?;
            }
            b'R' => self.reduce()?,
            // The state of an OrderedDict: PyTorch keeps the versions of modules there.
            b'b' => {
                self.pop()?;
                let object = self.top()?;
                if !matches!(self.values[object], Value::Dict(_)) {
                    return Err(self.broken("something other than a dictionary has a state"));
                }
            }
            code => return Err(PickleError::Instruction { code, at }),
        }
        Ok(true)
    }

    /// Counts what is kept, so that all that is kept has a limit.
    fn count(&mut self, steps: usize) -> Result<(), PickleError> {
        self.steps += steps;
        if self.steps > MAX_STEPS { Err(PickleError::TooLarge) } else { Ok(()) }
    }

    fn broken(&self, what: &'static str) -> PickleError {
        PickleError::Broken { what, at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..count).ok_or(PickleError::Truncated)?;
        self.at += count;
        if self.at > MAX_BYTES { Err(PickleError::TooLarge) } else { Ok(taken) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.take(N)?.try_into().map_err(|_| PickleError::Truncated)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An unsigned number of at most eight bytes, little-endian.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, PickleError> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(PickleError::Truncated)?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.broken("a name is not UTF-8"))
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// The topmost value that is no part of what the last mark begins.
    fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(<[Id]>::last);
        top.copied().ok_or_else(|| self.broken("a value is missing"))
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.broken("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn integer(&mut self, bytes: usize) -> Result<(), PickleError> {
        let number = self.unsigned(bytes)?;
        self.push(i64::try_from(number).map_or(Value::Other, Value::Int))
    }

    /// A signed number in two's complement, little-endian.
    fn long(&mut self, length: usize) -> Result<(), PickleError> {
        let digits = self.take(length)?;
        if length > 8 {
            return self.push(Value::Other);
        }
        let fill = if digits.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut bytes = [fill; 8];
        bytes[..length].copy_from_slice(digits);
        self.push(Value::Int(i64::from_le_bytes(bytes)))
    }

    /// Text, after its length in so many bytes.
    fn string(&mut self, bytes: usize) -> Result<(), PickleError> {
        let length = usize::try_from(self.unsigned(bytes)?).map_err(|_| PickleError::Truncated)?;
        let text = self.take(length)?;
        let text = std::str::from_utf8(text).map_err(|_| self.broken("a text is not UTF-8"))?;
        self.push(Value::Str(text))
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(self.broken("something is appended to what is no list")),
        }
    }

    /// Puts keys and values, which alternate, into the dictionary on top.
    fn insert(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.as_chunks().0.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(self.broken("something is put into what is no dictionary")),
        }
    }

    fn remember(&mut self, index: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), PickleError> {
        let id = self.memo.get(&index).copied().ok_or_else(|| self.broken("a value is recalled that was not kept"))?;
        self.stack.push(id);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let forbidden = || {
            let shown: String = format!("{module}.{name}").chars().take(100).collect();
            PickleError::Forbidden(shown.escape_debug().to_string())
        };
        let global = Global::of(module, name).ok_or_else(forbidden)?;
        self.push(Value::Global(global))
    }

    fn reduce(&mut self) -> Result<(), PickleError> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let Value::Global(function) = self.values[function] else {
            return Err(self.broken("something is called that is no function"));
        };
        let made = match (function, &self.values[arguments]) {
            (Global::OrderedDict, Value::Tuple(given)) => self.dict(given).map(Value::Dict),
            (Global::Tensor | Global::Parameter, Value::Tuple(_)) => Some(Value::Call { function, arguments }),
            _ => None,
        };
        let made = made.ok_or_else(|| self.broken("a function is called in a way that PyTorch does not"))?;
        if let Value::Dict(items) = &made {
            self.count(items.len())?;
        }
        self.push(made)
    }

    /// The dictionary of these arguments: none, or, by Python 2, a list of keys with their values.
    fn dict(&self, arguments: &[Id]) -> Option<Vec<(Id, Id)>> {
        let pair = |&id: &Id| match &self.values[id] {
            Value::List(pair) | Value::Tuple(pair) => <[Id; 2]>::try_from(pair.as_slice()).ok().map(<(Id, Id)>::from),
            _ => None,
        };
        match arguments {
            [] => Some(Vec::new()),
            [items] => match &self.values[*items] {
                Value::List(items) => items.iter().map(pair).collect(),
                _ => None,
            },
            _ => None,
        }
    }
}
