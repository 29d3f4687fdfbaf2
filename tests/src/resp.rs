//! A small client of the Redis protocol, for looking at servers from outside. It shares no code with the agent's, so that
//! a fault of the one is not hidden by the other.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::tls;

/// Longest answer that is waited for: a digest or a save of the largest data set.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Value>),
}

impl Value {
    /// Text or a number, as text; the bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        match self {
            Value::Nil => "(nil)".to_owned(),
            Value::Int(number) => number.to_string(),
            Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::List(values) => values.iter().map(Value::text).collect::<Vec<_>>().join(" "),
        }
    }

    pub fn int(&self) -> i64 {
        self.text().parse().unwrap_or_else(|_| panic!("{self:?} is no number"))
    }

    pub fn list(self) -> Vec<Value> {
        match self {
            Value::List(values) => values,
            other => vec![other],
        }
    }
}

/// Why a call has no answer: the server's own error line, or the connection's end.
pub type Failure = String;

/// What a connection is over.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<tls::Stream>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Stream>,
}

/// Puts a command into the form in which it is sent.
pub fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

impl Client {
    pub fn connect(address: SocketAddr, password: Option<&str>) -> Result<Self, Failure> {
        Self::connect_by(address, password, None)
    }

    /// The same by TLS, with the certificate of this directory.
    pub fn connect_tls(address: SocketAddr, password: Option<&str>, files: &Path) -> Result<Self, Failure> {
        Self::connect_by(address, password, Some(files))
    }

    fn connect_by(address: SocketAddr, password: Option<&str>, files: Option<&Path>) -> Result<Self, Failure> {
        let lost = |error: io::Error| format!("connect to {address}: {error}");
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(lost)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let stream = match files {
            None => Stream::Plain(stream),
            Some(files) => Stream::Tls(Box::new(tls::over(stream, files))),
        };
        let mut client = Self { stream: BufReader::new(stream) };
        if let Some(password) = password {
            client.try_call(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// Calls a command that is to succeed.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.try_call(args).unwrap_or_else(|error| {
            let words: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg.as_ref()).into_owned()).collect();
            panic!("`{}`: {error}", words.join(" "))
        })
    }

    pub fn try_call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, Failure> {
        let mut bytes = Vec::new();
        encode(args, &mut bytes);
        self.send(&bytes)?;
        self.answer()
    }

    /// Sends commands that are in their form already; their answers are read with [`Client::answer`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(|error| format!("connection lost: {error}"))
    }

    pub fn answer(&mut self) -> Result<Value, Failure> {
        let lost = |error: io::Error| format!("connection lost: {error}");
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(lost)?;
        let line = line.trim_end_matches(['\r', '\n']);
        let Some(kind) = line.chars().next() else { return Err("connection lost: it was closed".to_owned()) };
        let rest = &line[1..];
        let count = || rest.parse::<i64>().map_err(|_| format!("not an answer: {line}"));
        match kind {
            '+' => Ok(Value::Text(rest.as_bytes().to_vec())),
            '-' => Err(rest.to_owned()),
            ':' => Ok(Value::Int(count()?)),
            '$' if count()? < 0 => Ok(Value::Nil),
            '$' => {
                let mut bytes = vec![0; count()? as usize + 2];
                self.stream.read_exact(&mut bytes).map_err(lost)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Value::Text(bytes))
            }
            '*' if count()? < 0 => Ok(Value::Nil),
            '*' => Ok(Value::List((0..count()?).map(|_| self.answer()).collect::<Result<_, _>>()?)),
            _ => Err(format!("not an answer: {line}")),
        }
    }

    /// All fields of `INFO`.
    pub fn try_info(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        let text = self.try_call(&["INFO", "everything"])?.text();
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[track_caller]
    pub fn info(&mut self) -> BTreeMap<String, String> {
        self.try_info().unwrap_or_else(|error| panic!("`INFO`: {error}"))
    }

    /// One field of `INFO`; empty where the server has no such field.
    #[track_caller]
    pub fn field(&mut self, name: &str) -> String {
        self.info().remove(name).unwrap_or_default()
    }

    /// One value of `CONFIG GET`.
    #[track_caller]
    pub fn config(&mut self, name: &str) -> String {
        self.call(&["CONFIG", "GET", name]).list().pop().map(|value| value.text()).unwrap_or_default()
    }
}
