type Fields = Readonly<Record<string, unknown>>;

/** Members whose objects are looked into. */
interface Shape {
  readonly [member: string]: Shape;
}

const message: Shape = { content: {}, tool_calls: { function: {} } };
const row: Shape = {
  ...Object.fromEntries(
    ['messages', 'prompt', 'completion', 'chosen', 'rejected', 'preferred_output', 'non_preferred_output'].map(
      (name) => [name, message],
    ),
  ),
  conversations: message,
  input: { messages: message },
};

/**
 * A row without members that are null, in its messages too: tables with one set of columns for all rows fill the gaps so.
 * What tools are called with, and their schemas, stay as they are: there null may mean something.
 * `conversations` of messages with roles are `messages`.
 */
export function presentFields(raw: Fields): Fields {
  const fields = present(raw, row) as Fields;
  const { conversations, ...others } = fields;
  return hasRoles(conversations) && others['messages'] === undefined ? { ...others, messages: conversations } : fields;
}

/** Whether turns are messages with roles, which many call conversations as well. */
function hasRoles(turns: unknown): boolean {
  const first: unknown = Array.isArray(turns) ? turns[0] : undefined;
  return typeof first === 'object' && first !== null && Object.hasOwn(first, 'role');
}

function present(value: unknown, shape: Shape): unknown {
  if (Array.isArray(value)) return value.map((item) => present(item, shape));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, member]) => {
      if (member === null) return [];
      const inner = Object.hasOwn(shape, name) ? shape[name] : undefined;
      return [[name, inner === undefined ? member : present(member, inner)]];
    }),
  );
}
