import type { Case, Message, Suite } from '../contracts/index.ts';
import { canonicalJson } from '../kit/index.ts';

/**
 * Opening messages of an episode: the suite's prompt with the fields of the case put in, once. A message that turns
 * out empty is left out, so that cases without tools or rules need no system message.
 */
export function openingMessages(suite: Suite, item: Case): Message[] {
  return suite.prompt.messages
    .map((message) => ({
      ...message,
      content: message.content.replaceAll(/\{\{\s*([A-Za-z_][\w-]*)\s*\}\}/g, (_, name: string) => {
        const value = Object.hasOwn(item.input, name) ? item.input[name] : '';
        return typeof value === 'string' ? value : canonicalJson(value);
      }),
    }))
    .filter(({ content }) => content !== '');
}
