/** The greeting that opens every stream to a node. */
import { SilverbackError } from '../core/errors.ts';
import { type Hello, PROTOCOL_VERSION } from '../core/protocol.ts';

/** Throws what ends the stream: VERSION, INVALID_ARGUMENT (no greeting, another cluster's). */
export function checkHello(
  hello: Hello | null,
  node: { readonly clusterId: string; readonly name: string },
): asserts hello {
  if (hello === null) {
    throw new SilverbackError('INVALID_ARGUMENT', 'the first message of a stream must carry hello');
  }
  if (hello.version !== PROTOCOL_VERSION) {
    throw new SilverbackError(
      'VERSION',
      `the client speaks version ${hello.version} of the protocol, this node ${PROTOCOL_VERSION}`,
    );
  }
  if (hello.clusterId !== '' && node.clusterId !== '' && hello.clusterId !== node.clusterId) {
    throw new SilverbackError(
      'INVALID_ARGUMENT',
      `node ${node.name} belongs to cluster ${node.clusterId}, the client wants ${hello.clusterId}`,
    );
  }
}
