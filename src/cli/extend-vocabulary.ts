import type { ExtendResult } from '../jobs/extend-vocabulary.ts';
import type { Command, CommandContext } from './command.ts';
import { cliErrors } from './errors.ts';
import { checkThreads } from './flags.ts';
import { table } from './table.ts';

/** Most new tokens that are shown. */
const shownTokens = 12;

/** @param locate path of a checkpoint that is named by an id of the config */
export function extendVocabularyCommand(
  locate: (context: CommandContext, name: string) => Promise<string>,
  projectFlags: Command['flags'],
): Command {
  return {
    name: 'extend-vocabulary',
    summary: 'give a checkpoint tokens of its own for what a corpus often says',
    usage: '<checkpoint> --data <file> --tokens <n> -o <folder>',
    examples: [
      'cupel extend-vocabulary ./base --data corpus.jsonl --tokens 500 -o ./base-500',
      'cupel extend-vocabulary ./base --data a.jsonl --data b.jsonl --tokens 2000 --min-count 20 -o ./base-2000',
    ],
    flags: {
      ...Object.fromEntries(Object.entries(projectFlags).filter(([name]) => ['config', 'threads'].includes(name))),
      out: { short: 'o', value: 'folder', help: 'checkpoint to write' },
      data: { value: 'file', multiple: true, help: 'rows whose text the tokens are chosen from' },
      tokens: { value: 'n', help: 'most new tokens' },
      'min-count': { value: 'n', help: 'a piece of text that occurs less often becomes no token (default 5)' },
      'multiple-of': { value: 'n', help: 'rows of the embedding become a multiple of this (default 64)' },
    },
    run: async (context) => {
      const { arguments: given } = context;
      const [name, ...more] = given.positionals;
      const [output, data] = [given.text('out'), given.texts('data')];
      if (name === undefined || more.length > 0) throw cliErrors.CUPEL_CLI_USAGE({ message: 'name one checkpoint' });
      if (output === undefined) throw cliErrors.CUPEL_CLI_USAGE({ message: 'give a folder to write with -o' });
      if (data.length === 0) throw cliErrors.CUPEL_CLI_USAGE({ message: 'name a corpus with --data' });
      const whole = (flag: string, standard: number | null, most: number): number => {
        const value = given.number(flag) ?? standard;
        if (value !== null && Number.isInteger(value) && value >= 1 && value <= most) return value;
        throw cliErrors.CUPEL_CLI_USAGE({ message: `--${flag} wants a whole number from 1 to ${most}` });
      };
      const options = {
        tokens: whole('tokens', null, 100_000),
        minimumCount: whole('min-count', 5, 1_000_000),
        multipleOf: whole('multiple-of', 64, 4096),
      };
      const { extendCheckpoint, perWord } = await import('../jobs/extend-vocabulary.ts');
      const { checkpointPath } = await import('../jobs/quantize.ts');
      const base = (await checkpointPath(name)) ?? (await locate(context, name));
      const threads = given.number('threads');
      const result = await extendCheckpoint({
        base,
        data,
        options,
        output,
        progress: context.progress,
        ...(threads === undefined ? {} : { threads: checkThreads(threads) }),
      });
      context.print(context.json ? JSON.stringify(result) : describe(result, perWord));
      return 0;
    },
  };
}

function describe(result: ExtendResult, perWord: (one: ExtendResult['before']) => string): string {
  const { tokens, vocabularySize, before, after, heldOut } = result;
  const share = 100 * (1 - after.tokens / Math.max(1, before.tokens));
  const rows = tokens.slice(0, shownTokens).map(({ text, saved }) => [`  ${JSON.stringify(text)}`, `${saved}`]);
  return [
    result.path,
    `${tokens.length} new tokens, ${vocabularySize.before} to ${vocabularySize.after} rows`,
    `${perWord(before)} to ${perWord(after)} tokens a word: ${share.toFixed(1)} % fewer on ${heldOut ? 'text kept apart' : 'the corpus itself, which is too small to keep any apart'}`,
    '',
    table(['  new token', 'tokens saved'], rows, new Set([1])),
    ...(tokens.length > shownTokens ? [`  and ${tokens.length - shownTokens} more`] : []),
  ].join('\n');
}
