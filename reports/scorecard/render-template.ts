import * as runtimeModule from 'handlebars/runtime.js';
import { templates } from './templates.generated.ts';

type Template = (view: object, options?: { readonly partials?: Readonly<Record<string, Template>> }) => string;

/** What is used of Handlebars: the runtime alone, which compiles nothing from strings. */
interface Runtime {
  create(): Runtime;
  template(specification: unknown): Template;
  registerPartial(name: string, template: Template): void;
}

const runtime = (runtimeModule as unknown as { readonly default: Runtime }).default.create();
const loaded = new Map(
  Object.entries(templates).map(([name, specification]) => [name, runtime.template(specification)]),
);
for (const [name, template] of loaded) runtime.registerPartial(name, template);

/** Renders a precompiled template; every template is also a partial of the others. `{{ }}` escapes. */
export function renderTemplate(name: keyof typeof templates, view: object): string {
  const template = loaded.get(name);
  if (template === undefined) throw new TypeError(`no template '${name}'`);
  return template(view);
}
