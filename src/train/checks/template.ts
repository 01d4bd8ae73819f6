import type { Model, TrainingMessage, TrainingRow } from '../../contracts/index.ts';
import { opensWith } from '../sequence.ts';
import { type Finding, rowList } from './finding.ts';
import type { CheckInput } from './input.ts';

interface Marks {
  readonly special: number;
  readonly begin: number;
}

/**
 * Traps of chat templates that tokens alone show: a second begin-of-sequence token, special tokens in the text of a
 * prompt, padding that is the end of turn, and another template than the base was trained with. How many special tokens
 * belong into a row is counted in what the template writes for messages of the same roles that hold one letter each; into a
 * document belong the one that opens it and the end of turn.
 */
export function checkTemplate(
  input: Pick<CheckInput, 'model' | 'examples' | 'recordedTemplate' | 'template'>,
): Finding[] {
  const { model } = input;
  const findings: Finding[] = [];
  const begin = model.beginOfSequence ?? null;
  const count = marksCounter(model, begin);
  const expected = new Map<string, Marks>();
  const expectedOf = (roles: readonly TrainingMessage['role'][] | 'document'): Marks => {
    const key = typeof roles === 'string' ? roles : roles.join(' ');
    const known = expected.get(key);
    if (known !== undefined) return known;
    const marks = count(typeof roles === 'string' ? documentMarks(model) : conversationMarks(model, roles));
    expected.set(key, marks);
    return marks;
  };
  const begun: string[] = [];
  const marked: string[] = [];
  for (const example of input.examples) {
    const roles = rolesOf(example.source);
    for (const { tokens } of example.sequences) {
      const wanted = roles === null ? null : expectedOf(roles);
      const doubled = begin !== null && tokens[0] === begin && tokens[1] === begin;
      if (wanted === null || example.cutTokens !== undefined) {
        if (doubled) begun.push(example.id);
        continue;
      }
      const seen = count(tokens);
      if (doubled || (roles !== 'document' && seen.begin !== wanted.begin)) begun.push(example.id);
      else if (seen.special !== wanted.special) marked.push(example.id);
    }
  }
  if (begun.length > 0) {
    findings.push({
      code: 'CUPEL_TRAIN_BEGIN_OF_SEQUENCE',
      severity: 'error',
      message: `token ${begin} (begin of sequence) stands more than once at the start, or in the text, of ${begun.length} sequences`,
      where: rowList(begun),
    });
  }
  if (marked.length > 0) {
    findings.push({
      code: 'CUPEL_TRAIN_SPECIAL_TOKEN_IN_PROMPT',
      severity: 'warning',
      message: `${marked.length} sequences hold special tokens that the template did not write`,
      where: rowList(marked),
    });
  }
  if (model.padding !== undefined && model.padding === model.endOfTurn) {
    findings.push({
      code: 'CUPEL_TRAIN_PAD_IS_END',
      severity: 'warning',
      message: `token ${model.endOfTurn} is both padding and end of turn; labels go by position, so it is learned here`,
      where: 'tokenizer',
    });
  }
  const { recordedTemplate = null, template } = input;
  if (recordedTemplate !== null && template !== undefined && recordedTemplate !== template) {
    findings.push({
      code: 'CUPEL_TRAIN_TEMPLATE_CHANGED',
      severity: 'warning',
      message: `the base was trained with the template ${recordedTemplate.slice(0, 19)}…, and has ${template.slice(0, 19)}…`,
      where: 'chat template',
    });
  }
  return findings;
}

/** Roles of the messages that the template writes, or that it writes none; null where it writes more than messages. */
function rolesOf(row: TrainingRow | undefined): TrainingMessage['role'][] | 'document' | null {
  if (row?.kind === 'text') return 'document';
  if (row === undefined || row.tools !== undefined) return null;
  const messages = row.kind === 'messages' ? row.messages : row.prompt;
  if (messages.some(({ toolCalls }) => toolCalls !== undefined)) return null;
  return [...messages.map(({ role }) => role), ...(row.kind === 'messages' ? [] : (['assistant'] as const))];
}

function conversationMarks(model: Model, roles: readonly TrainingMessage['role'][]): readonly number[] {
  const messages = roles.map((role) => ({ role, content: 'x' }));
  return model.tokenize(model.render(messages, { addGenerationPrompt: false }));
}

function documentMarks(model: Model): number[] {
  const opening = opensWith(model);
  return opening === null ? [model.endOfTurn] : [opening, model.endOfTurn];
}

function marksCounter(model: Model, begin: number | null): (tokens: ArrayLike<number>) => Marks {
  const special = new Int8Array(model.vocabularySize).fill(-1);
  const isSpecial = (id: number): boolean => {
    // Three times: a decoder may strip one space at the start, and would make a plain space look like nothing.
    if (special[id] === -1) special[id] = model.detokenize([id, id, id]) === '' ? 1 : 0;
    return special[id] === 1;
  };
  return (tokens) => {
    let [specials, begins] = [0, 0];
    for (let index = 0; index < tokens.length; index++) {
      const id = tokens[index] as number;
      if (isSpecial(id)) specials++;
      if (id === begin) begins++;
    }
    return { special: specials, begin: begins };
  };
}
