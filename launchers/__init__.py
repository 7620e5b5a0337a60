"""Programs, the command line and experiments."""

from .program import Context as Context
from .program import Node as Node
from .program import NodeState as NodeState
from .program import Outcome as Outcome
from .program import Program as Program
from .program import ProgramError as ProgramError
from .program import resolve as resolve
from .rpc import AccessRefused as AccessRefused
from .rpc import CallTimeout as CallTimeout
from .rpc import Handle as Handle
from .rpc import MessageError as MessageError
from .rpc import NodeGone as NodeGone
from .rpc import RemoteError as RemoteError
from .rpc import RpcError as RpcError
from .rpc import Server as Server
