"""Second floor: where rules meet doors. The only floor that decides and waits."""
