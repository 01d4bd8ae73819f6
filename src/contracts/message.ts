/** A chat message. Tool calls and tool results are messages too. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string;
  /** Name of the tool whose result this is. Only with role `tool`. */
  readonly name?: string;
  readonly toolCalls?: readonly ToolCall[];
}

/** A call of a tool by a model. `arguments` has been parsed, never evaluated. */
export interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** A tool that a model may call. `parameters` is a JSON Schema (2020-12) of an object. */
export interface ToolDefinition {
  readonly name: string;
  readonly description: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}
