"""Pictures: from foreign bytes to two WebP variants, in bounded memory and as little processor time as looks the same."""
