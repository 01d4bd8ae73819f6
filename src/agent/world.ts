/** Result of a tool: what the model reads, whether the tool did its work, and the state afterwards. */
export interface ToolOutcome {
  readonly result: Readonly<Record<string, unknown>>;
  readonly ok: boolean;
  readonly state: unknown;
}

/** A deterministic world: states are JSON and never changed in place; no clock, no chance, no reach outside. */
export interface World {
  readonly id: string;
  /** JSON Schema of a state. */
  readonly stateSchema: Readonly<Record<string, unknown>>;
  /** Tool names to what they do; arguments have passed the schema of the tool's definition. */
  readonly tools: Readonly<Record<string, (state: never, given: Readonly<Record<string, unknown>>) => ToolOutcome>>;
}
