import { canonicalJson } from '../../kit/index.ts';

type Fields = Readonly<Record<string, unknown>>;

/**
 * Columns of a row that only say once more what others say, and would make it look like two kinds of row: `messages` that
 * are the chosen conversation, a `prompt` that stands in the messages, a `text` that joins all others.
 */
export function repeatedColumns(row: Fields): string[] {
  const repeated: string[] = [];
  const { messages, prompt, chosen, rejected, text } = row;
  const compared = Array.isArray(chosen) && Array.isArray(rejected);
  if (Array.isArray(messages) && compared && canonicalJson(messages) === canonicalJson(chosen))
    repeated.push('messages');
  if (compared) {
    if (opens(chosen, prompt) && opens(rejected, prompt)) repeated.push('prompt');
  } else if (row['completion'] === undefined && chosen === undefined && typeof prompt === 'string') {
    if (opens(messages, prompt)) repeated.push('prompt');
  }
  if (typeof text === 'string' && joins(text, learnt(row))) repeated.push('text');
  return repeated;
}

/** Whether a conversation holds a prompt: begins with its messages, or has it as what a user says. */
function opens(conversation: unknown, prompt: unknown): boolean {
  if (!Array.isArray(conversation)) return false;
  if (typeof prompt === 'string') {
    return (conversation as readonly unknown[]).some(
      (message) => memberOf(message, 'role') === 'user' && memberOf(message, 'content') === prompt,
    );
  }
  if (!Array.isArray(prompt) || prompt.length === 0 || prompt.length >= conversation.length) return false;
  return canonicalJson(conversation.slice(0, prompt.length)) === canonicalJson(prompt);
}

function joins(text: string, parts: readonly unknown[]): boolean {
  return parts.length > 1 && parts.every((part) => typeof part === 'string' && text.includes(part.trim()));
}

/** Texts of which a row is made, where it is one of several. */
function learnt(row: Fields): unknown[] {
  const { messages, conversations } = row;
  if (Array.isArray(messages)) return messages.map((message: unknown) => memberOf(message, 'content'));
  if (Array.isArray(conversations)) return conversations.map((turn: unknown) => memberOf(turn, 'value'));
  const names = row['instruction'] === undefined ? ['prompt', 'completion'] : ['instruction', 'input', 'output'];
  return names.flatMap((name) => (row[name] === undefined ? [] : [row[name]]));
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Fields)[name] : undefined;
}
