/** Finds the compiled kernels, which lie beside this file, in the sources as in dist/. */
// biome-ignore lint/style/noRestrictedImports: part of the program is loaded here, not data: the simulator has the same kernels
import { readFileSync } from 'node:fs';

/** A linear memory. Growing it replaces `buffer` and empties every view of the old one. */
export interface KernelMemory {
  readonly buffer: ArrayBuffer;
}

// The part of the JavaScript API of WebAssembly that is used here: ES2023's library does not declare it, and the DOM's,
// which does, declares a browser too.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
  readonly RuntimeError: new (message: string) => Error;
};

const modules = new Map<string, object>();

/** A new instance of `core/kernel/<name>.wasm`; compiled once for the process. `Exports` is what its assembly exports. */
export function loadKernel<Exports>(name: string): Exports {
  let module = modules.get(name);
  if (module === undefined) {
    module = new WebAssembly.Module(readFileSync(new URL(`./${name}.wasm`, import.meta.url)));
    modules.set(name, module);
  }
  const abort = (): never => {
    throw new WebAssembly.RuntimeError(`kernel ${name} aborted`);
  };
  return new WebAssembly.Instance(module, { env: { abort } }).exports as Exports;
}
