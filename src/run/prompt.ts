import type { Case, Message, PromptTemplate, Suite } from '../contracts/index.ts';
import { canonicalJson, nearest } from '../kit/index.ts';
import { runErrors } from './errors.ts';

type Input = Readonly<Record<string, unknown>>;

/**
 * Checks the prompt of a suite against every case and worked example, so that a fault is told before anything runs.
 * @throws CUPEL_RUN_PROMPT_INVALID, CUPEL_RUN_PROMPT_FIELD_UNKNOWN with case and field.
 */
export function checkPrompt(suite: Suite, cases: readonly Case[] = Object.values(suite.splits).flat()): void {
  const { messages, fewShot = [] } = suite.prompt;
  const where = `${suite.path}: prompt`;
  if (messages.length === 0) throw runErrors.CUPEL_RUN_PROMPT_INVALID({ message: 'the prompt has no message', where });
  if (suite.task === 'choice' && (messages.length !== 1 || messages[0]?.role !== 'user')) {
    throw runErrors.CUPEL_RUN_PROMPT_INVALID({
      message: `a choice suite scores plain text, but the prompt has ${messages.length} messages (${messages.map(({ role }) => role).join(', ')})`,
      where,
    });
  }
  for (const [index, shot] of fewShot.entries()) {
    for (const message of messages) substitute(message.content, shot.input, `${where}.fewShot[${index}]`);
  }
  for (const item of cases) {
    for (const message of messages) substitute(message.content, item.input, `${suite.path}: case ${item.id}`);
  }
}

/**
 * The messages for a case: system messages of the template, each worked example as its user turns and an assistant
 * turn, then the case's own turns.
 */
export function renderMessages(prompt: PromptTemplate, item: Case, options: { readonly fewShot: boolean }): Message[] {
  const fill = (message: Message, input: Input): Message => ({
    ...message,
    content: substitute(message.content, input, `case ${item.id}`),
  });
  const firstTurn = prompt.messages.findIndex(({ role }) => role !== 'system');
  const split = firstTurn === -1 ? prompt.messages.length : firstTurn;
  const shots = options.fewShot ? (prompt.fewShot ?? []) : [];
  return [
    ...prompt.messages.slice(0, split).map((message) => fill(message, item.input)),
    ...shots.flatMap((shot): Message[] => [
      ...prompt.messages.slice(split).map((message) => fill(message, shot.input)),
      { role: 'assistant', content: shot.output },
    ]),
    ...prompt.messages.slice(split).map((message) => fill(message, item.input)),
  ];
}

/**
 * The prompt as plain text, without chat template: contents joined by line feeds, worked examples before it, each
 * followed by an empty line (the few-shot delimiter of lm-evaluation-harness).
 */
export function renderText(prompt: PromptTemplate, item: Case, options: { readonly fewShot: boolean }): string {
  const one = (input: Input): string =>
    prompt.messages.map(({ content }) => substitute(content, input, `case ${item.id}`)).join('\n');
  const shots = options.fewShot ? (prompt.fewShot ?? []) : [];
  return [...shots.map((shot) => `${one(shot.input)}${shot.output}\n\n`), one(item.input)].join('');
}

/** Puts fields of the input in place of `{{field}}`, once: what a field holds is text, never a template again. */
function substitute(template: string, input: Input, where: string): string {
  return template.replaceAll(/\{\{([^{}]*)\}\}/g, (_, inner: string) => {
    const name = inner.trim();
    if (!/^[A-Za-z_][\w-]*$/.test(name))
      throw runErrors.CUPEL_RUN_PROMPT_INVALID({ message: `{{${inner}}} is not the name of a field`, where });
    if (!Object.hasOwn(input, name)) {
      const near = nearest(name, Object.keys(input));
      throw runErrors.CUPEL_RUN_PROMPT_FIELD_UNKNOWN({
        message: `the input has no field "${name}"${near === null ? '' : `; did you mean "${near}"?`} (it has: ${Object.keys(input).join(', ') || 'none'})`,
        where,
      });
    }
    const value = input[name];
    return typeof value === 'string' ? value : canonicalJson(value);
  });
}
