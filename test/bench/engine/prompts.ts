// The tokens that both sides read. Every repetition has its own, so that no cache of an earlier one helps.
import { wordToken } from './vocabulary.ts';

/** Token number `index` of the prompt `name` in a repetition: any fixed mixture of the three does. */
function token(repetition: number, name: number, index: number): number {
  let mixed =
    Math.imul(repetition + 1, 0x9e3779b1) ^ Math.imul(name + 1, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  mixed = Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39);
  return wordToken((mixed ^ (mixed >>> 15)) >>> 0);
}

/** @param name tells prompts of one repetition apart; the same name gives the same tokens. */
export function promptTokens(repetition: number, name: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => token(repetition, name, index));
}

/** Name of the prefix that the prompts of a repetition share. */
export const sharedName = 1_000_000;

/** A schema whose shortest answer is longer than any decoding of the bench: a list of tickets. */
export const ticketsSchema = {
  type: 'object',
  properties: {
    tickets: {
      type: 'array',
      minItems: 40,
      items: {
        type: 'object',
        properties: {
          category: { enum: ['billing', 'delivery', 'returns', 'account', 'technical', 'product', 'complaint'] },
          urgency: { enum: ['low', 'medium', 'high', 'critical'] },
          order_id: { type: 'string', maxLength: 12 },
          needs_human: { type: 'boolean' },
          summary: { type: 'string', maxLength: 60 },
        },
        required: ['category', 'urgency', 'order_id', 'needs_human', 'summary'],
        additionalProperties: false,
      },
    },
  },
  required: ['tickets'],
  additionalProperties: false,
} as const;

/** The same language in llama.cpp's grammar notation. */
export const ticketsGrammar = `
root ::= "{\\"tickets\\": [" ticket (", " ticket){39,} "]}"
ticket ::= "{\\"category\\": " category ", \\"urgency\\": " urgency ", \\"order_id\\": " id ", \\"needs_human\\": " flag ", \\"summary\\": " summary "}"
category ::= "\\"billing\\"" | "\\"delivery\\"" | "\\"returns\\"" | "\\"account\\"" | "\\"technical\\"" | "\\"product\\"" | "\\"complaint\\""
urgency ::= "\\"low\\"" | "\\"medium\\"" | "\\"high\\"" | "\\"critical\\""
flag ::= "true" | "false"
id ::= "\\"" char{0,12} "\\""
summary ::= "\\"" char{0,60} "\\""
char ::= [^"\\\\\\x7F\\x00-\\x1F] | [\\\\] (["\\\\bfnrt] | "u" [0-9a-fA-F]{4})
`;
