import { defineErrors } from '../kit/index.ts';

export const pluginErrors = defineErrors({
  CUPEL_PLUGIN_UNKNOWN: {
    exit: 2,
    what: 'No plugin has the id that was asked for.',
    mend: 'Run `cupel list` for the ids that are there.',
  },
  CUPEL_PLUGIN_INVALID: {
    exit: 2,
    what: 'A plugin file has no default export of the kind that its folder asks for.',
    mend: 'Export default define…({ … }) from the plugin file.',
  },
  CUPEL_PLUGIN_LOAD: {
    exit: 2,
    what: 'A plugin could not be loaded.',
    mend: 'Read the cause; a missing package is named there and can be installed with npm.',
  },
  CUPEL_PLUGIN_UNTRUSTED: {
    exit: 2,
    what: 'A config names plugins, which are code, and the folder is not trusted.',
    mend: 'Read the plugin files, then run again with --trust.',
  },
  CUPEL_RECIPE_SPLIT: {
    exit: 2,
    what: 'A recipe wants to measure its checkpoints on another split than validation.',
    mend: 'Leave `split` out. What chooses a checkpoint must never be what the gate measures it on.',
  },
});
