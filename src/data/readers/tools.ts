import type { ToolDefinition } from '../../contracts/index.ts';
import { checkAgainst, compileSchema } from '../../kit/index.ts';
import { dataErrors } from '../errors.ts';
import { checkDepth } from './sound.ts';

const bareTool = {
  type: 'object',
  additionalProperties: false,
  required: ['name'],
  properties: {
    name: { type: 'string', minLength: 1 },
    description: { type: 'string' },
    parameters: { type: 'object' },
  },
};
const validateTools = compileSchema(
  {
    type: 'array',
    items: {
      if: { required: ['function'] },
      then: {
        type: 'object',
        additionalProperties: false,
        properties: { type: { const: 'function' }, function: bareTool },
      },
      else: bareTool,
    },
  },
  'tools',
);

/** What stands beside the messages in formats that know tools. */
export const toolFields = {
  tools: { type: ['array', 'string', 'null'] },
  parallel_tool_calls: { type: 'boolean' },
  chat_template_kwargs: { type: ['object', 'null'] },
} as const;

interface ToolSide {
  readonly tools?: unknown;
  readonly parallel_tool_calls?: boolean;
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null;
}

/**
 * Tools of a row, as a list or as JSON text.
 * @throws CUPEL_DATA_NOT_TRAINABLE for what the template would never see; CUPEL_FIELD_*, CUPEL_DATA_TOOLS
 */
export function readTools(side: ToolSide, where: string): { tools?: readonly ToolDefinition[] } {
  if (side.parallel_tool_calls === false) {
    throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
      message: '"parallel_tool_calls" is false, and no chat template can say so',
      where,
    });
  }
  const settings = Object.keys(side.chat_template_kwargs ?? {});
  if (settings.length > 0) {
    throw dataErrors.CUPEL_DATA_NOT_TRAINABLE({
      message: `"chat_template_kwargs" sets ${settings.join(', ')}: a row can not change how the template writes`,
      where,
    });
  }
  const raw = typeof side.tools === 'string' ? parseTools(side.tools, where) : (side.tools ?? []);
  checkDepth(raw, `${where}: tools`);
  const list = checkAgainst<readonly (Partial<ToolDefinition> & { readonly function?: Partial<ToolDefinition> })[]>(
    validateTools,
    raw,
    `${where}: tools`,
  );
  if (list.length === 0) return {};
  return {
    tools: list.map((entry) => {
      const { name = '', description = '', parameters = { type: 'object', properties: {} } } = entry.function ?? entry;
      return { name, description, parameters };
    }),
  };
}

function parseTools(text: string, where: string): unknown {
  if (text.trim() === '') return [];
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw dataErrors.CUPEL_DATA_TOOLS({ message: `"tools" is text, and no JSON: ${text.slice(0, 60)}`, where, cause });
  }
}
